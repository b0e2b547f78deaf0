"""The causes that a failed request can have, and what would mend each."""

from __future__ import annotations

from collections.abc import Mapping

CAUSES: Mapping[str, str] = {
    "generator": "the generator or its machine was in trouble itself",
    "app": "the app itself answered so",
    "stopped": "its server was told to stop while it was in flight",
    "died": "its server died while it was in flight",
    "unready": "sent to a server that was not ready yet",
    "dead": "sent to a server that was gone, or going",
    "nobody": "the proxy had no server left to ask",
    "hung": "its server gave no answer in time",
    "proxy": "the proxy itself was down, or went down",
    "dropped": "the proxy let go of it, though its server was at work on it or had answered",
    "reload": "its connection was cut as the proxy reloaded",
    "reused": "sent on a kept connection as that was closed",
    "fault": "a fault that was made on purpose, by itself",
    "unknown": "nothing that was written down explains it",
}
"""What each cause means."""

_MEND: Mapping[str, Mapping[str, str]] = {
    "stopped": {
        "": "stop gracefully: on SIGTERM finish what is in flight, and have the grace period last "
        "longer than the slowest request (server.shutdown=graceful, stop_grace_period)",
    },
    "died": {
        "nginx": "proxy_next_upstream error timeout (GETs only; a POST in flight stays lost)",
        "haproxy": "retry-on conn-failure empty-response, with disable-l7-retry if !METH_GET",
        "": "have the proxy ask another server where the request may be repeated",
    },
    "unready": {
        "nginx": "write it into the upstream only once it has answered by itself",
        "haproxy": "option httpchk GET /ready, and servers that start down until they passed it",
        "": "give it users only once its health check has passed",
    },
    "dead": {
        "nginx": "proxy_next_upstream error timeout; proxy_connect_timeout 1s; take it out of the "
        "upstream and reload before it is stopped",
        "haproxy": "option redispatch 1, check inter 500ms fall 2 on-error mark-down, and drain it "
        "(set server .../... state drain) before it is stopped",
        "": "take it out of rotation before it is stopped, and try another one when it refuses",
    },
    "nobody": {"": "keep one server in rotation: start the new ones before the old ones stop"},
    "hung": {
        "nginx": "proxy_read_timeout and proxy_connect_timeout below the users' patience",
        "haproxy": "timeout server and timeout connect below the users' patience, option httpchk",
        "": "bound how long the proxy waits for a server, and ask its health over HTTP",
    },
    "proxy": {"": "run two of them, or replace it without letting go of its port"},
    "dropped": {
        "nginx": "worker_shutdown_timeout longer than the slowest request",
        "haproxy": "hard-stop-after longer than the slowest request, and no shutdown-sessions",
        "": "let what is in flight finish on a server that is drained, or as the proxy reloads",
    },
    "reload": {
        "nginx": "keepalive_timeout 0, or keepalive_min_timeout from nginx 1.27.4 on",
        "haproxy": "master-worker (-W) with expose-fd listeners",
        "": "hand the listening sockets over when it reloads",
    },
    "reused": {"": "close idle connections sooner on the client's side than on the server's"},
    "app": {"": "probe the new version on the paths that users ask before it gets any"},
}


def mend(cause: str, proxy: str) -> str:
    """Return what would mend it, as a line of that proxy's configuration; "" where nothing does.

    `proxy` is ``nginx``, ``haproxy`` or "" for any other.
    """
    told = _MEND.get(cause, {})
    return told.get(proxy) or told.get("", "")
