# ruff: noqa: E501
"""assignments of roles.

A revision of kind contract; it loses nothing.
"""

from alembic import op

revision = "0005_assignments_of_roles_contract"
down_revision = "0004_assignments_of_roles_expand"
kind = "contract"
destructive = False
may_wait = True
fingerprint = "f23b8629e048872a0b70787246cd19c041bddf6966a5c3e969a6fc2f944bd3f2"


def upgrade() -> None:
    # user_roles: add reference user_roles_role_id_fkey_8f2c2a90
    op.execute("""ALTER TABLE "user_roles" NO FORCE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "roles" NO FORCE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "user_roles" ADD CONSTRAINT "user_roles_role_id_fkey_8f2c2a90" FOREIGN KEY ("role_id") REFERENCES "roles" ("id")""")
    op.execute("""ALTER TABLE "user_roles" FORCE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "roles" FORCE ROW LEVEL SECURITY""")
