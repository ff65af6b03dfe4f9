"""`flarekit serve`: an OpenAI-compatible server that answers by a policy, in front of a vLLM server.

::

    asked      what a request asks for, and whether a policy applies to it at all
    served     the policies that are offered, each under the name that a request gives as its model
    service    carries one request out: a session whose committed text is sent as it comes, or the relay
    replies    the words of the protocol: chunks, answers, usage, errors
    live       a response that is written while it is made, and that ends all beneath it when its reader leaves
    relay      requests that no policy applies to, passed through byte by byte
    upstreams  several servers of one model behind one address
    transport  httpx's interface over aiohttp's connections
    gates      what a request must pass: keys, limits
    exchange   one request and its answer; metrics, spans and logs observe exchanges
    app        all of it as one ASGI application; start makes it from settings
"""
