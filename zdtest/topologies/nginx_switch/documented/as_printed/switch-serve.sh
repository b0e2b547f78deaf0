# /scripts/switch-serve.sh
echo "set \$service_url http://172.17.0.1:$1;" |tee /etc/nginx/conf.d/service-url.inc
