"""What an admin asks of policy files before they decide anything: check, explain, test, diff, replay.

Nothing here is on a request's way, and nothing here can open anything: it reads a folder, or two, or the
access log, and says what it found.
"""
