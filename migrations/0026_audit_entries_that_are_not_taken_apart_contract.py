# ruff: noqa: E501
"""audit entries that are not taken apart.

A revision of kind contract; it loses nothing.
"""

from alembic import op

revision = "0026_audit_entries_that_are_not_taken_apart_contract"
down_revision = "0025_audit_entries_that_are_not_taken_apart_expand"
kind = "contract"
destructive = False
may_wait = True
fingerprint = "33207e01ecc32bed61f938af1af533d980aa9301260500690233b1a29f237fd7"


def upgrade() -> None:
    # audit_logs: change column changes from jsonb to json
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "changes" TYPE json USING "changes"::json""")
