"""An agent that asks a model through an OpenAI-compatible endpoint and streams the tokens of its answer.

Configuration: `base_url` (or `ensemble_url`), `model`, and if wanted `system_prompt`, `temperature`, `max_tokens`.
Secret: `openai_api_key` (or `ensemble_api_key`), if the endpoint wants one.

The main thread listens to the host, so that `interrupt` and `shutdown` are heard while a model answers; a second thread
works on one message after the other.
"""

import json
import os
import queue
import socket
import struct
import threading
import urllib.error
import urllib.request

# How long the endpoint may be silent.
SILENCE_SECONDS = 120
# How many messages of the conversation are remembered when the client does not send its own history.
REMEMBERED = 40


class Host:
    """The host at the other end of the socket. Packets: four bytes of length, then JSON."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ["AGENT_SOCKET"])
        self.source = self.socket.makefile("rb")
        self.lock = threading.Lock()

    def send(self, kind, **content):
        body = json.dumps({"type": kind, "content": content}).encode()
        with self.lock:
            self.socket.sendall(struct.pack(">I", len(body)) + body)

    def packets(self):
        while head := self.source.read(4):
            packet = json.loads(self.source.read(struct.unpack(">I", head)[0]))
            yield packet["type"], packet.get("content") or {}


class Chat:
    """One conversation with a model."""

    def __init__(self, host):
        self.host = host
        self.config, self.secrets, self.history = {}, {}, []
        self.waiting = queue.Queue()
        self.interrupted = threading.Event()

    def listen(self):
        threading.Thread(target=self.work, daemon=True).start()
        for kind, content in self.host.packets():
            if kind == "init":
                self.config, self.secrets = content.get("config") or {}, content.get("secrets") or {}
                self.host.send("ready")
            elif kind == "message":
                self.waiting.put(content)
            elif kind == "config_update":
                self.config = {**self.config, **(content.get("changes") or content.get("config") or content)}
            elif kind == "interrupt":
                self.interrupted.set()
            elif kind == "steer":
                self.history.append({"role": "system", "content": str(content.get("content", ""))})
            elif kind == "shutdown":
                return

    def work(self):
        while True:
            message = self.waiting.get()
            self.interrupted.clear()
            try:
                self.answer(message)
            except urllib.error.HTTPError as error:
                self.fail(message, f"the model endpoint answered {error.code} {error.reason}")
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.fail(message, f"the model did not answer: {error}")

    def answer(self, message):
        asked = {"role": "user", "content": message["text"]}
        earlier = message.get("messages") or self.history[-REMEMBERED:]
        prompt = self.config.get("system_prompt")
        system = [{"role": "system", "content": prompt}] if prompt else []
        text = ""
        for token in self.tokens(system + earlier + [asked]):
            text += token
            self.host.send("stream_update", message_id=message["message_id"], content={"text": token})
            if self.interrupted.is_set():
                break
        self.history += [asked, {"role": "assistant", "content": text}]
        self.host.send("complete", message_id=message["message_id"], text=text)

    def tokens(self, messages):
        """Yields the answer as the endpoint streams it: lines of `data: {...}`, the last of them `data: [DONE]`."""
        base_url = self.config.get("base_url") or self.config.get("ensemble_url")
        if not base_url:
            raise ValueError("config.base_url is not set")
        body = {"model": self.config.get("model", "default"), "messages": messages, "stream": True}
        body.update({name: self.config[name] for name in ("temperature", "max_tokens") if name in self.config})
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        key = self.secrets.get("openai_api_key") or self.secrets.get("ensemble_api_key")
        if key:
            headers["authorization"] = f"Bearer {key}"
        url = base_url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer:
            for line in answer:
                data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                for choice in json.loads(data).get("choices") or [] if data else []:
                    if token := (choice.get("delta") or {}).get("content"):
                        yield token

    def fail(self, message, why):
        self.host.send("log", level="error", message=why)
        self.host.send("error", message_id=message.get("message_id", ""), message=why)


if __name__ == "__main__":
    Chat(Host()).listen()
