"""Who is let in: aliases, invitations, claims, words that two people compare, what text of others may ask of
us.

In: invitation text, AUTH and AUTHED, facts about this host. Out: a member bound, or a refusal that says
why.
Source: docs/protocol.md section 9.
"""
