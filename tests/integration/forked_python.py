"""Stands for `python`: `forked_python.py SOCKET -m MODULE ...` or `SOCKET SCRIPT ...`; see python_fork_server.py."""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = {"words": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
    content = (json.dumps(request) + "\n").encode()
    sent = socket.send_fds(server, [content], [0, 1, 2])
    server.sendall(content[sent:])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    answer = server.recv(100)
code = int(answer) if answer else 1
if code < 0:
    os.kill(os.getpid(), -code)  # ended by a signal: so do I
sys.exit(code)
