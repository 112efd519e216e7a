"""The policy decision point (PDP, NIST SP 800-162): rules in files -> permit or denial.

syntax.py       bytes -> records with positions
grammar.py      the cells of a record: principals, reports, fields
source.py       the files -> Policy, or every fault at once
reading.py      … of their records: lines, each checked whole
lines.py        the lines of a policy: access rules and cell rules
preference.py   which of two forms of a cell is given
meeting.py      forms that can meet on a field, but cannot be compared
index.py        Policy: lines by principal and report; the slice that can apply to a request
rules.py        the slice decided by Casbin; roles and sets resolved
merge.py        cell rules -> Plan
decide.py       subject, report, context -> Permit or Deny
conditions/     the condition language of `when` and `rows`
"""
