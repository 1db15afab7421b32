"""`secrets rotate`: everything that is encrypted, under the current key."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from byodpp.cli.acting import run
from byodpp.cli.output import print_step
from byodpp.cli.place import place_of

if TYPE_CHECKING:
    from byodpp.database import Transaction
    from byodpp.encryption import EncryptionKeys
    from byodpp.settings import Settings

__all__ = ["rotate"]

#: Secrets of one transaction: a rotation that is broken off has lost nothing, and the next one goes on.
_BATCH = 200
_INTERRUPTED = "Interrupted: it goes on when it is run again."
_SELECT = (
    "select v.tenant_id, v.secret_id, v.key_id, v.sealed, s.owner_id, s.name from byodpp.secret_values v"
    " join secrets s on s.tenant_id = v.tenant_id and s.id = v.secret_id"
    " where v.key_id <> $1 and (v.tenant_id, v.secret_id) > ($2, $3)"
    " order by v.tenant_id, v.secret_id limit $4 for update of v"
)
_UPDATE = "update byodpp.secret_values set key_id = $3, sealed = $4 where tenant_id = $1 and secret_id = $2"
_TOLD = (
    "insert into audit_logs (tenant_id, action, resource_type, result, changes)"
    " values ($1, 'ROTATE', 'Secrets', 'success', json_build_object('secrets', $2::int, 'key', $3::text))"
)


def rotate(context: typer.Context) -> None:
    """Encrypt what is not under the first key of `encryption_keys` anew: secrets and encrypted fields.

    Put the new key first and leave the former one behind it until this has ended; servers go on meanwhile.
    Broken off, it goes on when it is run again. The exit status is 1 when one could not be read.
    """
    settings = place_of(context).settings()
    done, unread = run(_rotate(settings), interrupted=_INTERRUPTED)
    print_step("rotated", f"{done} secrets")
    values, left = run(_rotate_fields(settings), interrupted=_INTERRUPTED)
    print_step("rotated", f"{values} values of encrypted fields")
    for what, reasons in (("secrets", unread), ("values", left)):
        for reason, number in reasons.items():
            typer.echo(f"{number} {what} stay as they are: {reason}", err=True)
    if unread or left:
        raise typer.Exit(1)


async def _rotate(settings: Settings) -> tuple[int, Counter[str]]:
    from byodpp.cli.preparation import migrated_database, open_database
    from byodpp.encryption import EncryptionKeys

    done, unread = 0, Counter[str]()
    async with migrated_database(settings) as found, open_database(found) as shared:
        keys = EncryptionKeys.of(found)
        for database in shared.everywhere():
            place = (-1, "")
            while True:
                async with database.system() as transaction:
                    rows = await transaction.fetch(_SELECT, keys.current, *place, _BATCH)
                    if not rows:
                        break
                    place = (rows[-1]["tenant_id"], rows[-1]["secret_id"])
                    done += await _seal_anew(transaction, keys, rows, unread)
    return done, unread


async def _rotate_fields(settings: Settings) -> tuple[int, Counter[str]]:
    from byodpp.cli.preparation import migrated_database, open_database
    from byodpp.encryption import EncryptionKeys
    from byodpp.manifest import load_manifest
    from byodpp.rotation import FieldRotation

    registry = load_manifest(settings.app_dir)
    async with migrated_database(settings) as found, open_database(found) as database:
        rotation = FieldRotation(registry, EncryptionKeys.of(found))
        done = [await rotation.run(one) for one in database.everywhere()]
        return sum(done), rotation.unread


async def _seal_anew(
    transaction: Transaction, keys: EncryptionKeys, rows: list[Any], unread: Counter[str]
) -> int:
    from byodpp.encryption import Unreadable
    from byodpp.service.secrets import associated

    tenants: Counter[int] = Counter()
    for row in rows:
        whose = associated(row["tenant_id"], row["owner_id"], row["name"])
        try:
            value = keys.open(row["key_id"], row["sealed"], whose)
        except Unreadable as error:
            unread[str(error)] += 1
            continue
        sealed = keys.seal(value, whose)
        await transaction.execute(_UPDATE, row["tenant_id"], row["secret_id"], keys.current, sealed)
        tenants[row["tenant_id"]] += 1
    for tenant, number in tenants.items():
        await transaction.execute(_TOLD, tenant, number, keys.current)
    return tenants.total()
