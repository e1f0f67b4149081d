"""What runs in place of Python in `tests.support.warm_python`: built-in modules alone, so that it starts at once."""

import _signal
import _socket
import marshal
import posix
import sys

LEVEL, RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS
numbers = []
for number in map(int, posix.listdir("/proc/self/fd")):
    try:
        posix.fstat(number)
    except OSError:  # that of the listing itself
        continue
    numbers.append(number)
connection = _socket.socket(_socket.AF_UNIX)
connection.connect(sys.argv[1])
body = marshal.dumps({"numbers": numbers, "words": sys.argv[2:], "folder": posix.getcwd(), "environment": dict(posix.environ)})
message = b"%d\n%s" % (len(body), body)
packed = b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)
sent = connection.sendmsg([message], [(LEVEL, RIGHTS, packed)])
connection.sendall(message[sent:])
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2):
    _signal.signal(number, lambda signum, _: connection.send(bytes([signum])))
status = int(connection.recv(16) or b"1")
if status < 0:
    if -status in _signal.valid_signals() and -status not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(-status, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -status)
posix._exit(status)
