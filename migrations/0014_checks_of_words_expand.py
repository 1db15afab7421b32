# ruff: noqa: E501
"""checks of words.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0014_checks_of_words_expand"
down_revision = "0013_tiers_of_tenants_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "75b2e06df35df585bff5fd4fe8bc7d9bce998151d3906eb480c6d3c115fd2541"


def upgrade() -> None:
    # tenants: drop constraint tenants_status_check_126b693d
    op.execute("""ALTER TABLE "tenants" DROP CONSTRAINT "tenants_status_check_126b693d" """)
    # tenants: drop constraint tenants_tenant_size_check_3d6381cc
    op.execute("""ALTER TABLE "tenants" DROP CONSTRAINT "tenants_tenant_size_check_3d6381cc" """)
    # tenants: drop constraint tenants_type_check_e6179384
    op.execute("""ALTER TABLE "tenants" DROP CONSTRAINT "tenants_type_check_e6179384" """)
    # facilities: drop constraint facilities_type_check_5805c6c8
    op.execute("""ALTER TABLE "facilities" DROP CONSTRAINT "facilities_type_check_5805c6c8" """)
    # users: drop constraint users_status_check_4ee72352
    op.execute("""ALTER TABLE "users" DROP CONSTRAINT "users_status_check_4ee72352" """)
    # tenant_users: drop constraint tenant_users_status_check_68ef1edd
    op.execute("""ALTER TABLE "tenant_users" DROP CONSTRAINT "tenant_users_status_check_68ef1edd" """)
    # settings: drop constraint settings_name_check_b336b943
    op.execute("""ALTER TABLE "settings" DROP CONSTRAINT "settings_name_check_b336b943" """)
    # categories: drop constraint categories_product_type_check_c0b4e775
    op.execute("""ALTER TABLE "categories" DROP CONSTRAINT "categories_product_type_check_c0b4e775" """)
    # categories: drop constraint categories_scheme_check_b0913a14
    op.execute("""ALTER TABLE "categories" DROP CONSTRAINT "categories_scheme_check_b0913a14" """)
    # products: drop constraint products_granularity_check_ec486e25
    op.execute("""ALTER TABLE "products" DROP CONSTRAINT "products_granularity_check_ec486e25" """)
    # products: drop constraint products_status_check_e016e04a
    op.execute("""ALTER TABLE "products" DROP CONSTRAINT "products_status_check_e016e04a" """)
    # products: drop constraint products_type_check_ddb4c83c
    op.execute("""ALTER TABLE "products" DROP CONSTRAINT "products_type_check_ddb4c83c" """)
    # product_data_sources: drop constraint product_data_sources_type_check_6d8d0e6b
    op.execute("""ALTER TABLE "product_data_sources" DROP CONSTRAINT "product_data_sources_type_check_6d8d0e6b" """)
    # product_data_sources: drop constraint product_data_sources_last_status_check_868e488c
    op.execute("""ALTER TABLE "product_data_sources" DROP CONSTRAINT "product_data_sources_last_status_check_868e488c" """)
    # product_data: drop constraint product_data_quality_check_580551dc
    op.execute("""ALTER TABLE "product_data" DROP CONSTRAINT "product_data_quality_check_580551dc" """)
    # units: drop constraint units_status_check_b0fef6f0
    op.execute("""ALTER TABLE "units" DROP CONSTRAINT "units_status_check_b0fef6f0" """)
    # templates: drop constraint templates_product_type_check_2d97b0f0
    op.execute("""ALTER TABLE "templates" DROP CONSTRAINT "templates_product_type_check_2d97b0f0" """)
    # templates: drop constraint templates_status_check_e35663b3
    op.execute("""ALTER TABLE "templates" DROP CONSTRAINT "templates_status_check_e35663b3" """)
    # template_fields: drop constraint template_fields_data_type_check_712bfc94
    op.execute("""ALTER TABLE "template_fields" DROP CONSTRAINT "template_fields_data_type_check_712bfc94" """)
    # template_fields: drop constraint template_fields_lifecycle_check_edf4d837
    op.execute("""ALTER TABLE "template_fields" DROP CONSTRAINT "template_fields_lifecycle_check_edf4d837" """)
    # template_fields: drop constraint template_fields_obligation_check_958f33e1
    op.execute("""ALTER TABLE "template_fields" DROP CONSTRAINT "template_fields_obligation_check_958f33e1" """)
    # validations: drop constraint validations_kind_check_280b8931
    op.execute("""ALTER TABLE "validations" DROP CONSTRAINT "validations_kind_check_280b8931" """)
    # validations: drop constraint validations_severity_check_4635432b
    op.execute("""ALTER TABLE "validations" DROP CONSTRAINT "validations_severity_check_4635432b" """)
    # dpps: drop constraint dpps_granularity_check_01ed8635
    op.execute("""ALTER TABLE "dpps" DROP CONSTRAINT "dpps_granularity_check_01ed8635" """)
    # dpps: drop constraint dpps_status_check_15dffd3e
    op.execute("""ALTER TABLE "dpps" DROP CONSTRAINT "dpps_status_check_15dffd3e" """)
    # policies: drop constraint policies_effect_check_1cf76bd5
    op.execute("""ALTER TABLE "policies" DROP CONSTRAINT "policies_effect_check_1cf76bd5" """)
    # policies: drop constraint policies_ptype_check_3f77b43e
    op.execute("""ALTER TABLE "policies" DROP CONSTRAINT "policies_ptype_check_3f77b43e" """)
    # audit_logs: drop constraint audit_logs_result_check_e6bf931b
    op.execute("""ALTER TABLE "audit_logs" DROP CONSTRAINT "audit_logs_result_check_e6bf931b" """)
    # revocations: drop constraint revocations_kind_check_a0924380
    op.execute("""ALTER TABLE "revocations" DROP CONSTRAINT "revocations_kind_check_a0924380" """)
    # tenant_classes: drop constraint tenant_classes_tier_check_bfecbf1e
    op.execute("""ALTER TABLE "tenant_classes" DROP CONSTRAINT "tenant_classes_tier_check_bfecbf1e" """)
    # tenants: add constraint tenants_status_check_6da0451e
    op.execute("""ALTER TABLE "tenants" ADD CONSTRAINT "tenants_status_check_6da0451e" CHECK ("status" = ANY ('{"invited","accepted","rejected","activated","deactivated"}'::text[]))""")
    # tenants: add constraint tenants_tenant_size_check_c276ea91
    op.execute("""ALTER TABLE "tenants" ADD CONSTRAINT "tenants_tenant_size_check_c276ea91" CHECK ("tenant_size" = ANY ('{"one_to_ten","ten_to_fifty","fifty_to_hundred","hundred_to_five_hundred","five_hundred_to_thousand","more_than_thousand"}'::text[]))""")
    # tenants: add constraint tenants_type_check_6160a60e
    op.execute("""ALTER TABLE "tenants" ADD CONSTRAINT "tenants_type_check_6160a60e" CHECK ("type" = ANY ('{"kam","manufacturer","supplier","importer","distributor","dealer","retailer","collector","sorter","refurbisher","others"}'::text[]))""")
    # facilities: add constraint facilities_type_check_de9be2c6
    op.execute("""ALTER TABLE "facilities" ADD CONSTRAINT "facilities_type_check_de9be2c6" CHECK ("type" = ANY ('{"plant","warehouse","repair","recycling"}'::text[]))""")
    # users: add constraint users_status_check_d17adc64
    op.execute("""ALTER TABLE "users" ADD CONSTRAINT "users_status_check_d17adc64" CHECK ("status" = ANY ('{"invited","accepted","rejected","activated","deactivated"}'::text[]))""")
    # tenant_users: add constraint tenant_users_status_check_ecb07676
    op.execute("""ALTER TABLE "tenant_users" ADD CONSTRAINT "tenant_users_status_check_ecb07676" CHECK ("status" = ANY ('{"invited","active","suspended"}'::text[]))""")
    # settings: add constraint settings_name_check_91866faa
    op.execute("""ALTER TABLE "settings" ADD CONSTRAINT "settings_name_check_91866faa" CHECK ("name" = ANY ('{"settings"}'::text[]))""")
    # categories: add constraint categories_product_type_check_1b638893
    op.execute("""ALTER TABLE "categories" ADD CONSTRAINT "categories_product_type_check_1b638893" CHECK ("product_type" = ANY ('{"battery","electronics","lighting","furniture","textile","toy","tyre","detergent","construction","steel","aluminium","other"}'::text[]))""")
    # categories: add constraint categories_scheme_check_01784fb6
    op.execute("""ALTER TABLE "categories" ADD CONSTRAINT "categories_scheme_check_01784fb6" CHECK ("scheme" = ANY ('{"own","hs","cpv","gpc"}'::text[]))""")
    # products: add constraint products_granularity_check_7af75ec8
    op.execute("""ALTER TABLE "products" ADD CONSTRAINT "products_granularity_check_7af75ec8" CHECK ("granularity" = ANY ('{"model","batch","item"}'::text[]))""")
    # products: add constraint products_status_check_bc8b48e2
    op.execute("""ALTER TABLE "products" ADD CONSTRAINT "products_status_check_bc8b48e2" CHECK ("status" = ANY ('{"draft","published","discontinued","recalled"}'::text[]))""")
    # products: add constraint products_type_check_5bf1db8b
    op.execute("""ALTER TABLE "products" ADD CONSTRAINT "products_type_check_5bf1db8b" CHECK ("type" = ANY ('{"battery","electronics","lighting","furniture","textile","toy","tyre","detergent","construction","steel","aluminium","other"}'::text[]))""")
    # product_data_sources: add constraint product_data_sources_last_status_check_e7e31b0c
    op.execute("""ALTER TABLE "product_data_sources" ADD CONSTRAINT "product_data_sources_last_status_check_e7e31b0c" CHECK ("last_status" = ANY ('{"succeeded","failed","running"}'::text[]))""")
    # product_data_sources: add constraint product_data_sources_type_check_df7e23cb
    op.execute("""ALTER TABLE "product_data_sources" ADD CONSTRAINT "product_data_sources_type_check_df7e23cb" CHECK ("type" = ANY ('{"manual","csv","json","api","erp","epcis","sensor"}'::text[]))""")
    # product_data: add constraint product_data_quality_check_7dd0176b
    op.execute("""ALTER TABLE "product_data" ADD CONSTRAINT "product_data_quality_check_7dd0176b" CHECK ("quality" = ANY ('{"measured","calculated","declared","estimated"}'::text[]))""")
    # units: add constraint units_status_check_62a8510c
    op.execute("""ALTER TABLE "units" ADD CONSTRAINT "units_status_check_62a8510c" CHECK ("status" = ANY ('{"active","deprecated"}'::text[]))""")
    # templates: add constraint templates_product_type_check_89bf88ae
    op.execute("""ALTER TABLE "templates" ADD CONSTRAINT "templates_product_type_check_89bf88ae" CHECK ("product_type" = ANY ('{"battery","electronics","lighting","furniture","textile","toy","tyre","detergent","construction","steel","aluminium","other"}'::text[]))""")
    # templates: add constraint templates_status_check_eb80ee3a
    op.execute("""ALTER TABLE "templates" ADD CONSTRAINT "templates_status_check_eb80ee3a" CHECK ("status" = ANY ('{"draft","published","deprecated"}'::text[]))""")
    # template_fields: add constraint template_fields_data_type_check_36749987
    op.execute("""ALTER TABLE "template_fields" ADD CONSTRAINT "template_fields_data_type_check_36749987" CHECK ("data_type" = ANY ('{"string","text","integer","decimal","boolean","date","datetime","yearMonth","enum","multiEnum","url","country","gtin","cas","i18nText","quantity","range","table"}'::text[]))""")
    # template_fields: add constraint template_fields_lifecycle_check_ea0d380a
    op.execute("""ALTER TABLE "template_fields" ADD CONSTRAINT "template_fields_lifecycle_check_ea0d380a" CHECK ("lifecycle" = ANY ('{"static","dynamic"}'::text[]))""")
    # template_fields: add constraint template_fields_obligation_check_8b441eb4
    op.execute("""ALTER TABLE "template_fields" ADD CONSTRAINT "template_fields_obligation_check_8b441eb4" CHECK ("obligation" = ANY ('{"mandatory","conditional","optional","pending","notToFill"}'::text[]))""")
    # validations: add constraint validations_kind_check_522c6473
    op.execute("""ALTER TABLE "validations" ADD CONSTRAINT "validations_kind_check_522c6473" CHECK ("kind" = ANY ('{"required","range","length","enum","sumEquals","order"}'::text[]))""")
    # validations: add constraint validations_severity_check_c4b966e3
    op.execute("""ALTER TABLE "validations" ADD CONSTRAINT "validations_severity_check_c4b966e3" CHECK ("severity" = ANY ('{"error","warning","info"}'::text[]))""")
    # dpps: add constraint dpps_granularity_check_18380676
    op.execute("""ALTER TABLE "dpps" ADD CONSTRAINT "dpps_granularity_check_18380676" CHECK ("granularity" = ANY ('{"model","batch","item"}'::text[]))""")
    # dpps: add constraint dpps_status_check_6aadf3ee
    op.execute("""ALTER TABLE "dpps" ADD CONSTRAINT "dpps_status_check_6aadf3ee" CHECK ("status" = ANY ('{"draft","inReview","published","suspended","superseded","archived","withdrawn","ended"}'::text[]))""")
    # policies: add constraint policies_effect_check_c241fa39
    op.execute("""ALTER TABLE "policies" ADD CONSTRAINT "policies_effect_check_c241fa39" CHECK ("effect" = ANY ('{"allow","deny"}'::text[]))""")
    # policies: add constraint policies_ptype_check_d4897070
    op.execute("""ALTER TABLE "policies" ADD CONSTRAINT "policies_ptype_check_d4897070" CHECK ("ptype" = ANY ('{"p","g"}'::text[]))""")
    # audit_logs: add constraint audit_logs_result_check_ac061f04
    op.execute("""ALTER TABLE "audit_logs" ADD CONSTRAINT "audit_logs_result_check_ac061f04" CHECK ("result" = ANY ('{"success","denied","failure"}'::text[]))""")
    # revocations: add constraint revocations_kind_check_c2b716f4
    op.execute("""ALTER TABLE "revocations" ADD CONSTRAINT "revocations_kind_check_c2b716f4" CHECK ("kind" = ANY ('{"token","user","tenant"}'::text[]))""")
    # tenant_classes: add constraint tenant_classes_tier_check_c32224ca
    op.execute("""ALTER TABLE "tenant_classes" ADD CONSTRAINT "tenant_classes_tier_check_c32224ca" CHECK ("tier" = ANY ('{"shared","schema"}'::text[]))""")
