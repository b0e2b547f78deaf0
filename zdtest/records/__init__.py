"""What is written down while a run goes on, and read back.

`sample` says what a request and a moment are on file. A run's folder is a `recording`: the load's
own part of it are `arrows`, with `beside` the samples what streams and repeated writes add; what
others wrote are `jsonlines`: the app's `journal`, the `proxylog` or what a balancer says was
`unasked`, the `memory`. `eventlog` notes the moments while they pass and `host` what it all ran on;
`crew` tells who sent the load, and `numbering` what is missing of it.
"""
