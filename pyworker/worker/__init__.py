"""The worker: parent process, fork server, children."""
