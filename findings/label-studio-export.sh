#!/usr/bin/env bash
# Label Studio keeps a copy of all answers in its data folder after each export, though it is a GET.
#
#     bash findings/label-studio-export.sh [PYTHON]
#
# A GET of /api/projects/ID/export is expected to leave nothing behind. It leaves two files in the
# server's data folder, the answers and a description. They stay when the answer is deleted, and
# when the project is. Their names have the minute, so a script that polls the answers by export
# adds a full copy of them each minute, changed or not, until the disk is full.
# It starts a server on this machine, and waits for a new minute.
# Measured with label-studio 1.23.2. Status 1: it no longer holds.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet label-studio==1.23.2
port=$("$folder/venv/bin/python" -c \
    'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
env -i PATH="$PATH" HOME="$folder" TMPDIR="$folder" COLLECT_ANALYTICS=0 LATEST_VERSION_CHECK=0 \
    SENTRY_DSN= FRONTEND_SENTRY_DSN= "$folder/venv/bin/label-studio" start --no-browser \
    --internal-host 127.0.0.1 --port "$port" --data-dir "$folder/data" --username a@example.com \
    --password Secret-12345 --user-token token-of-a --enable-legacy-api-token &>"$folder/log" &
server=$!
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$server" || { cat "$folder/log"; exit 1; }
    sleep 1
done
"$folder/venv/bin/python" - "$port" "$folder/data" <<'PYTHON'
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

DATA = Path(sys.argv[2])
SERVER = build_opener(ProxyHandler({}))
HEADERS = {"Authorization": "Token token-of-a", "Content-Type": "application/json"}
CONFIG = '<View><Text name="q" value="$q"/><TextArea name="a" toName="q"/></View>'
RESULT = {"from_name": "a", "to_name": "q", "type": "textarea", "value": {"text": ["forty-two"]}}


def call(method, path, body=None):
    url, data = f"http://127.0.0.1:{sys.argv[1]}/api/{path}", body and json.dumps(body).encode()
    with SERVER.open(Request(url, data, HEADERS, method=method), timeout=600) as reply:
        return json.loads(reply.read() or "null")


def kept(event):
    """How many files were added, and how many of them have the answer."""
    texts = [path.read_text() for path in {*DATA.rglob("*.json")} - before]
    found = len(texts), sum("forty-two" in text for text in texts)
    print(f"{event:24} expected 0 files more; real {found[0]}, {found[1]} of them with the answer")
    return found


project = call("POST", "projects/", {"title": "sums", "label_config": CONFIG})["id"]
call("POST", f"projects/{project}/import", [{"q": "6 * 7?"}, {"q": "1 + 1?"}])
task = call("GET", f"tasks?project={project}")["tasks"][0]["id"]
answer = call("POST", f"tasks/{task}/annotations/", {"result": [RESULT]})["id"]
before, export = {*DATA.rglob("*.json")}, f"projects/{project}/export?exportType=JSON"
print(f"label-studio {version('label-studio')}")
replies, real = [call("GET", export)], [kept("export")]
time.sleep(61 - time.time() % 60)
replies.append(call("GET", export))
real.append(kept("export, a minute later"))
call("DELETE", f"annotations/{answer}/")
replies.append(call("GET", export))
real.append(kept("answer deleted, export"))
call("DELETE", f"projects/{project}/")
real.append(kept("project deleted"))
right = replies[0] == replies[1] and len(replies[0]) == 1 and replies[2] == []
sys.exit(not (right and real == [(2, 1), (4, 2), (6, 2), (6, 2)]))
PYTHON
