# ruff: noqa: E501
"""who made keys, and tenants that are counted only when they agree.

A revision of kind expand; it loses nothing but the word that 0026 had put into every tenant's mouth.
"""

from alembic import op

revision = "0021_who_made_keys_expand"
down_revision = "0020_events_in_the_trail_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "a7d1493b797508436591052ea1bcc2b15db449e41cc0616e260a7de9f32610ef"


def upgrade() -> None:
    # tenants: analytics: default false
    op.execute("""ALTER TABLE "tenants" ALTER COLUMN "analytics" SET DEFAULT false""")
    # Policies would hide the rows from the owner; in a tenant's own database the table refuses changes.
    op.execute("""ALTER TABLE "tenants" NO FORCE ROW LEVEL SECURITY""")
    op.execute("""SET LOCAL byodpp.moving = 'on'""")
    op.execute("""UPDATE "tenants" SET "analytics" = false WHERE "analytics" """)
    op.execute("""SET LOCAL byodpp.moving = ''""")
    op.execute("""ALTER TABLE "tenants" FORCE ROW LEVEL SECURITY""")
    # api_keys: add column maker_name
    op.execute("""ALTER TABLE "api_keys" ADD COLUMN "maker_name" character varying(255) COLLATE "C" """)
    # api_keys: add column maker_user_name
    op.execute("""ALTER TABLE "api_keys" ADD COLUMN "maker_user_name" character varying(255) COLLATE "C" """)
    # api_keys: add column maker_email
    op.execute("""ALTER TABLE "api_keys" ADD COLUMN "maker_email" character varying(320) COLLATE "C" """)
