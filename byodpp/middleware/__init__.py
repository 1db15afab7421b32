"""The stages around the controllers, one per file.

Two kinds, told apart by what they need. **Around everything**: request context, access log,
security headers, error writer, cross-origin rules, size limits, rate limit by address. **Of a
route** (`routes.Stage`): body, authentication, rate limit by user, authorization, row probe,
negotiation, validation. Their order stands in `application`. A stage that has nothing to wait for
is a plain function: a request of which all is known passes them without a coroutine of their own.
"""
