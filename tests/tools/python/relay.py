"""A wire between a client and a daemon that can be held up and cut: bytes of an ipc endpoint, passed on by threads."""
import os
import socket
import tempfile
import threading


class Relay:
    """endpoint: where the client connects. The daemon's ipc endpoint is `target`."""

    def __init__(self, target):
        self.target = target[len("ipc://"):]
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "relay")
        self.endpoint = "ipc://" + self.path
        self.flows = threading.Event()  # clear: what the daemon says is kept back
        self.flows.set()
        self.open, self.n_connections = [], 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.listener.close()
        self.cut()
        self.folder.cleanup()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.target)
            self.open += [client, daemon]
            self.n_connections += 1
            threading.Thread(target=self.carry, args=(client, daemon, None), daemon=True).start()
            threading.Thread(target=self.carry, args=(daemon, client, self.flows), daemon=True).start()

    def carry(self, source, sink, flows):
        try:
            while data := source.recv(1 << 16):
                if flows:
                    flows.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def cut(self):
        """Ends all connections as they are; what was kept back is lost. The client's socket connects again by itself."""
        ends, self.open = self.open, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already
        self.flows.set()
