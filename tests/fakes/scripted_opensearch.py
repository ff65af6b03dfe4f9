"""OpenSearch's answers, played on a real socket: the engine itself cannot be had from a package index."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from flarekit.retrieval import Passage
from flarekit.retrievers import BM25Retriever


class OpenSearch:
    """The requests that are made of the engine, answered on a real socket as its documentation says it answers them.

    It is no engine: ranks are those of `BM25Retriever`, whatever the index's own settings are.
    """

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}
        self.asked: list[tuple[str, str, Any]] = []
        """Method, path and body (a list of its lines for NDJSON), in order."""
        self.authorizations: list[str | None] = []
        self.refuse: Callable[[str], tuple[int, Any] | None] = lambda path: None
        """What to answer to a path instead."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # header and body in one packet: a client delays its word that it has the first

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                path = self.path.partition("?")[0]
                lines = path.endswith(("_bulk", "_msearch"))
                body = [json.loads(line) for line in content.splitlines()] if lines else json.loads(content or "null")
                engine.asked.append((self.command, self.path, body))
                engine.authorizations.append(self.headers.get("Authorization"))
                status, answer = engine.refuse(path) or engine.answer(self.command, self.path, body)
                sent = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(sent)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        return Handler

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path, _, options = path.partition("?")
        match method, path.strip("/").split("/"):
            case "POST" | "PUT", ["_bulk"]:
                return 200, self._bulk(body)
            case "POST", ["_aliases"]:
                return 200, self._move(body["actions"])
            case "HEAD", ["_alias", name]:
                return (200 if name in self.aliases else 404), None
            case "GET", ["_alias", name]:
                return 200, {self.aliases[name]: {"aliases": {name: {}}}}
            case "HEAD", [index]:
                return (200 if index in self.indexes or index in self.aliases else 404), None
            case "PUT", [index]:
                self.indexes[index] = {"definition": body, "documents": {}, "refreshed": False}
                return 200, {"acknowledged": True, "shards_acknowledged": True, "index": index}
            case "DELETE", [index]:
                del self.indexes[index]
                return 200, {"acknowledged": True}
            case "PUT", [_, "_settings"]:
                return 200, {"acknowledged": True}
            case "POST", [index, "_refresh"]:
                self.indexes[index]["refreshed"] = True
                return 200, {"_shards": {"total": 2, "successful": 1, "failed": 0}}
            case _, [index, "_field_caps"] if found := self._found(index):
                known = found["definition"]["mappings"]["properties"]
                fields = [field for field in options.removeprefix("fields=").split("%2C") if field in known]
                return 200, {"indices": [index], "fields": {field: {"text": {"type": "text"}} for field in fields}}
            case _, [index, "_msearch"] if found := self._found(index):
                return 200, {"took": 1, "responses": [self._search(found, request) for request in body[1::2]]}
            case _, [index, _]:
                reason = {"type": "index_not_found_exception", "reason": f"no such index [{index}]"}
                return 404, {"error": {"root_cause": [reason], **reason}, "status": 404}
        raise AssertionError(f"not played: {method} {path}")

    def _found(self, index: str) -> dict[str, Any] | None:
        found = self.indexes.get(self.aliases.get(index, index))
        return found if found and found["refreshed"] else None

    def _bulk(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            [(kind, target)] = action.items()
            documents = self.indexes[target["_index"]]["documents"]
            item: dict[str, Any] = {"_index": target["_index"], "_id": target["_id"], "status": 201}
            if kind == "create" and target["_id"] in documents:
                reason = f"[{target['_id']}]: version conflict, document already exists"
                item |= {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": reason}}
            elif len(target["_id"].encode()) > 512:
                item |= {"status": 400, "error": {"type": "action_request_validation_exception", "reason": "too long"}}
            documents.setdefault(target["_id"], document)
            items.append({kind: item})
        return {"took": 1, "errors": any("error" in next(iter(item.values())) for item in items), "items": items}

    def _move(self, actions: list[dict[str, Any]]) -> dict[str, Any]:
        for action in actions:
            [(kind, target)] = action.items()
            if kind == "add":
                self.aliases[target["alias"]] = target["index"]
            else:
                assert kind == "remove_index"
                del self.indexes[target["index"]]
        return {"acknowledged": True}

    def _search(self, index: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        if request["size"] > 10_000:
            cause = {"type": "illegal_argument_exception", "reason": "Result window is too large"}
            error = {"root_cause": [cause], "type": "search_phase_execution_exception", "reason": "all shards failed"}
            return {"error": error, "status": 400}
        asked = request["query"]["multi_match"]
        documents = sorted(index["documents"].items(), key=lambda item: item[1].get("number", 0))
        corpus = [
            Passage(id_, "", " ".join(str(document.get(field, "")) for field in asked["fields"]))
            for id_, document in documents
        ]
        hits = []
        for hit in BM25Retriever(corpus)._search(asked["query"], request["size"]):
            document = index["documents"][hit.passage.id]
            source = {field: document[field] for field in request["_source"] if field in document}
            order = [hit.score, document.get("number")]
            hits.append({"_index": "passages", "_id": hit.passage.id, "_score": None, "_source": source, "sort": order})
        return {"took": 1, "timed_out": False, "hits": {"max_score": None, "hits": hits}, "status": 200}
