"""Alarms: what somebody should look at now, told in the log, the metrics and to a webhook.

kinds.py      the table of all, with what to do
raised.py     each is told once in a while, to all who want it
webhook.py    … over HTTP, at least once
noticed.py    what tells of itself while requests go by
watching.py   what is looked at now and then: volumes, the policy, the log
"""
