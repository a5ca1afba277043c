"""A small server on this machine that speaks vLLM's protocol, for tests. Its model is a real one.

It answers like vLLM 0.32: token ids with the end token, and `prompt_logprobs`. A test changes or
spoils replies by a function (`spoil`), which may also fail a request.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pivottrace.models.canary import _log_probs
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.sampler import Sampling

END = 1


class Status(Exception):
    """A reply with another status than 200, for `spoil` to raise."""

    def __init__(self, status, reply=None, headers=()):
        super().__init__(status)
        self.status, self.reply = status, reply or {"error": {"message": f"says {status}"}}
        self.headers = dict(headers)


class Dropped(Exception):
    """The connection is closed without a reply, for `spoil` to raise."""


class FakeServer:
    """What the server has, and what it was asked.

    Attributes:
        requests: Each request's path, body and headers, in order.
        spoil: A function of the path, the body and the reply. It gives the reply that
            is sent.
        most_at_once: The most requests that were under way together.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.requests, self.most_at_once = [], 0
        self.max_model_len, self.names = 40, ["tiny"]
        self.spoil = lambda path, body, reply: reply
        self._under_way, self._lock = 0, threading.Lock()

    def completions(self):
        """The bodies that were sent to be completed, without those for scores."""
        bodies = [body for path, body, _ in self.requests if path == "/v1/completions"]
        return [body for body in bodies if "prompt_logprobs" not in body]

    def answer(self, path, body, headers):
        with self._lock:
            self.requests.append((path, body, headers))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return self.spoil(path, body, self._reply(path, body))
        finally:
            with self._lock:
                self._under_way -= 1

    def _reply(self, path, body):
        if path == "/version":
            return {"version": "0.0"}
        if path == "/v1/models":
            card = {"root": "/models/tiny", "max_model_len": self.max_model_len}
            return {"data": [{"id": name, **card} for name in self.names]}
        return {"choices": self._choices(body)}

    def _choices(self, body):
        prompt, scores = body["prompt"], None
        if "prompt_logprobs" in body:
            found = _log_probs(self.model, prompt, len(prompt) - 1)
            each = zip(prompt[1:], found, strict=True)
            scores = [None, *({str(token): {"logprob": value}} for token, value in each)]
        choices = []
        for index in range(body["n"]):
            with self._lock:
                tokens = self._respond(body, body["seed"] + index)
            ended = len(tokens) < body["max_tokens"]
            choices.append(
                {
                    "index": index,
                    "token_ids": [*tokens, END] if ended else tokens,
                    "prompt_token_ids": prompt,
                    "finish_reason": "stop" if ended else "length",
                    "stop_reason": None,
                    "prompt_logprobs": scores,
                }
            )
        return choices[::-1]  # the client must read the index

    def _respond(self, body, seed):
        settings = Sampling(
            num_samples=1,
            temperature=body["temperature"] or None,
            max_new_tokens=body["max_tokens"],
            seed=seed,
        )
        sampler = TransformersSampler(self.model, self.tokenizer)
        return sampler.sample([body["prompt"]], settings)[0][0]


@contextmanager
def serving(fake, port=0):
    """Serve on this machine; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._reply({})

        def do_POST(self):
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body):
            status, headers = 200, {}
            try:
                reply = fake.answer(self.path, body, dict(self.headers))
            except Status as error:
                status, reply, headers = error.status, error.reply, error.headers
            except Dropped:
                self.close_connection = True
                return
            text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
