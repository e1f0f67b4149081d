"""What runs in place of Python in `tests.support.warm_python`: the standard library's smallest part, so that it starts at once."""

import json
import os
import signal
import socket
import sys

numbers = [number for number in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{number}")]  # noqa: PTH110, PTH208
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
told = {"numbers": numbers, "words": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
body = json.dumps(told).encode()
message = b"%d\n%s" % (len(body), body)
sent = socket.send_fds(connection, [message], numbers)
connection.sendall(message[sent:])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda signum, _: connection.send(bytes([signum])))
status = int(connection.recv(16) or b"1")
if status < 0:
    if -status in signal.valid_signals() and -status not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
