#!/usr/bin/env bash
# Label Studio's own SDK asks for an export of some tasks, and gets all of them.
#
#     bash findings/label-studio-export-ids.sh [PYTHON]
#
# `projects.exports.download_sync(id, ids=[...])` is documented to retrieve only the tasks named. The
# SDK sends `ids=1`, as the server's schema says; the server reads `ids[]=1` alone, and leaves a name
# that it does not know aside. So the reply is a whole export, with status 200 and no warning. (The
# documented example for curl has `ids[]`. The description calls this way deprecated in Enterprise.)
# It starts a server on this machine.
# Measured with label-studio 1.23.2 and the label-studio-sdk 2.1.2 that it asks for. Status 1: it no
# longer holds.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet label-studio==1.23.2 label-studio-sdk==2.1.2
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
NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$folder/venv/bin/python" - "http://127.0.0.1:$port" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from urllib.request import Request, urlopen

from label_studio_sdk import LabelStudio

CONFIG = '<View><Text name="q" value="$q"/><TextArea name="a" toName="q"/></View>'
client = LabelStudio(base_url=sys.argv[1], api_key="token-of-a")
project = client.projects.create(title="sums", label_config=CONFIG).id
client.projects.import_tasks(project, request=[{"q": f"{n} + 1?"} for n in range(3)])
tasks = [str(task.id) for task in client.tasks.list(project=project)]


def by_sdk(ids):
    parts = client.projects.exports.download_sync(
        project, export_type="JSON", download_all_tasks=True, ids=ids
    )
    return len(json.loads(b"".join(parts)))


def by_hand(name):
    url = f"{sys.argv[1]}/api/projects/{project}/export?exportType=JSON&download_all_tasks=true"
    request = Request(f"{url}&{name}={tasks[0]}", headers={"Authorization": "Token token-of-a"})
    return len(json.loads(urlopen(request, timeout=600).read()))


print(f"label-studio {version('label-studio')}, label-studio-sdk {version('label-studio-sdk')}")
print(f"tasks in the project: {len(tasks)}")
real = by_sdk(tasks[:1]), by_hand("ids"), by_hand("ids%5B%5D")
print(f"the SDK, ids of one task: expected 1 task; real {real[0]}")
print(f"by hand, ids=1:           expected 1 task; real {real[1]}")
print(f"by hand, ids[]=1:         expected 1 task; real {real[2]}")
sys.exit(not (len(tasks) == 3 and real == (3, 3, 1)))
PYTHON
