"""The demo: a report store, people with tokens and a policy, to try the proxy with on one machine.

sales.py      the sample reports, seeded and deterministic
size.py       how large they are, without what makes them
store.py      the report store that serves them, a process of its own
people.py     who the people are, and their tokens
material.py   certificates, keys, policies and settings on disk, made once
run.py        the store and the proxy as running processes
policies/     the policy files that a new demo begins with
"""
