# ruff: noqa: E501
"""audit entries that are not taken apart.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0025_audit_entries_that_are_not_taken_apart_expand"
down_revision = "0024_audit_entries_that_cost_less_contract"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "33207e01ecc32bed61f938af1af533d980aa9301260500690233b1a29f237fd7"


def upgrade() -> None:
    # Functions that tell policies who asks
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."events"() RETURNS TABLE (number bigint, place bigint, tenant_id bigint, name text, data jsonb, resource text, resource_id text, request_id text, correlation_id text, actor_id bigint, created_at timestamptz)
    LANGUAGE plpgsql STABLE AS $function$
BEGIN
    RETURN QUERY
    SELECT o.id, 0::bigint, o.tenant_id, o.name, o.data, o.resource, o.resource_id, o.request_id,
        o.correlation_id, o.actor_id, o.created_at
    FROM byodpp.outbox o
    UNION ALL
    SELECT a._event_number, a.id, a.tenant_id, a._event, a.changes::jsonb -> 'after', a.resource_type::text,
        a.resource_id::text, a.request_id::text, coalesce(a._correlation, a.request_id), a.user_id,
        a.created_at
    FROM audit_logs a WHERE a._event IS NOT NULL
    ORDER BY 1, 2;
END
$function$""")
    # audit_logs: change column action from character varying(128) to text
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "action" TYPE text COLLATE "C" """)
    # audit_logs: change column ip_address from character varying(64) to text
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "ip_address" TYPE text COLLATE "C" """)
    # audit_logs: change column key_id from character varying(26) to text
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "key_id" TYPE text COLLATE "C" """)
    # audit_logs: change column request_id from character varying(128) to text
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "request_id" TYPE text COLLATE "C" """)
    # audit_logs: change column resource_id from character varying(255) to text
    op.execute("""ALTER TABLE "audit_logs" ALTER COLUMN "resource_id" TYPE text COLLATE "C" """)
