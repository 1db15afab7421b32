# ruff: noqa: E501
"""prices of classes.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0022_prices_of_classes_expand"
down_revision = "0021_who_made_keys_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "6969d33ef15e9a704b5fbf1bacc7734a0ddde55382614a3d2b12b40aeb88dabd"


def upgrade() -> None:
    # tenant_classes: add column monthly_price
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "monthly_price" numeric(12,2)""")
    # tenant_classes: add column currency
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "currency" character varying(3) COLLATE "C" """)
