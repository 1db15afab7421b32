# ruff: noqa: E501
"""assignments of roles.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0004_assignments_of_roles_expand"
down_revision = "0003_audit_trail_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "f23b8629e048872a0b70787246cd19c041bddf6966a5c3e969a6fc2f944bd3f2"


def upgrade() -> None:
    # user_roles: drop constraint user_roles_role_id_fkey_ecb7a159
    op.execute("""ALTER TABLE "user_roles" DROP CONSTRAINT "user_roles_role_id_fkey_ecb7a159" """)
