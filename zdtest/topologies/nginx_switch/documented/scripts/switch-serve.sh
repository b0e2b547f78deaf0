# Document 001, run in the proxy: switch-serve.sh PORT. ../../README.md lists every mend.
echo "set \$service_url http://${WAS_HOST:-172.17.0.1}:$1;" |tee conf.d/service-url.inc
