# ruff: noqa: E501
"""events in the trail.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0020_events_in_the_trail_expand"
down_revision = "0019_tenants_counted_together_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "1355bb001f65d74961eadadfeeca19c45a0332203918f733a751dec26d80e659"


def upgrade() -> None:
    # Functions that tell policies who asks
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."event_number"() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $function$
BEGIN
    RETURN pg_catalog.nextval('byodpp.outbox_id_seq'::pg_catalog.regclass);
END
$function$""")
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."events"() RETURNS TABLE (number bigint, place bigint, tenant_id bigint, name text, data jsonb, resource text, resource_id text, request_id text, correlation_id text, actor_id bigint, created_at timestamptz)
    LANGUAGE plpgsql STABLE AS $function$
BEGIN
    RETURN QUERY
    SELECT o.id, 0::bigint, o.tenant_id, o.name, o.data, o.resource, o.resource_id, o.request_id,
        o.correlation_id, o.actor_id, o.created_at
    FROM byodpp.outbox o
    UNION ALL
    SELECT a._event_number, a.id, a.tenant_id, a._event, a.changes -> 'after', a.resource_type::text,
        a.resource_id::text, a.request_id::text, coalesce(a._correlation, a.request_id), a.user_id,
        a.created_at
    FROM audit_logs a WHERE a._event IS NOT NULL
    ORDER BY 1, 2;
END
$function$""")
    # audit_logs: drop policy byodpp_insert_policy_150025a8
    op.execute("""DROP POLICY "byodpp_insert_policy_150025a8" ON "audit_logs" """)
    # audit_logs: drop policy byodpp_update_policy_94b84c41
    op.execute("""DROP POLICY "byodpp_update_policy_94b84c41" ON "audit_logs" """)
    # audit_logs: drop constraint audit_logs_result_check_ac061f04
    op.execute("""ALTER TABLE "audit_logs" DROP CONSTRAINT "audit_logs_result_check_ac061f04" """)
    # audit_logs: add column _event
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "_event" text COLLATE "C" """)
    # audit_logs: add column _event_number
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "_event_number" bigint""")
    # audit_logs: add column _correlation
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "_correlation" text COLLATE "C" """)
    # audit_logs: create policy byodpp_insert_policy_09559871
    op.execute("""CREATE POLICY "byodpp_insert_policy_09559871" ON "audit_logs" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND tenant_id >= 0 AND "result" = ANY ('{"success","denied","failure"}'::text[]))""")
    # audit_logs: create policy byodpp_update_policy_fedf9331
    op.execute("""CREATE POLICY "byodpp_update_policy_fedf9331" ON "audit_logs" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()) AND tenant_id >= 0 AND "result" = ANY ('{"success","denied","failure"}'::text[]))""")
