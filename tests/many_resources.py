"""A manifest of many resources that nobody wrote, and valid values for its fields; both from a seed.

Knows the manifest's words and nothing of the framework: what it says about a value (what is sent,
what must come back) is a second opinion.
"""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

__all__ = ["Values", "dumps", "logic_files", "make_manifest", "own_resources"]

Json = dict[str, Any]

_NAMES = """
Orders Select Groups Tables Default Index Columns Where Join Limits Offset Primary Values Windows
Analyze All Union Case End Check Constraint Foreign Desc Table Column Trigger View Sequence Schema Role
Session_User Current_Date Analyses HTTPServers A B2 Xmin Ctid Natural Lateral Array Row Rows Range Interval
Timestamp Timestamps Bit Char Nullif Coalesce Greatest Exists Extract Position Returning Do Into
ExtraordinarilyLongWindedRegistryOfRegenerativePowertrain
""".split()
_FIELDS = """
user order table default group select from where limit offset desc column check constraint primary end
cast time date timestamp value key count sum data type name path fields context load dump opts validate
self class include filter sort page search json text row rows new old excluded session current result total
createdBy a1B2 line2Text x public lambda None True async limit_ get keys items copy update pop
anEspeciallyLongFieldNameThatNobodyWouldWriteTwice
""".split()
_TITLES = ["Größe", "製品名", "Nom d'objet", "اسم", "🔋 Battery", 'a "quoted" \\ title', "<b>bold</b>"]
_PATTERNS = {r"^[A-Z]{3}-[0-9]{4}$": "ABC-1234", r"[0-9]+": "no 7", "^(a|b)+$": "abba"}
_FORMATS = {
    "email": "some.one@example.com",
    "uri": "https://example.com/a?b=c",
    "slug": "a-slug",
    "date": "2024-02-29",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "hostname": "www.example.com",
    "language": "de",
    "color": "#0a0B0c",
    "uuid": "018f4e2a-7b1c-7000-8000-000000000001",
}
_SIMPLE = (
    "string text integer bigint decimal float boolean date time datetime uuid ulid json object array".split()
)
#: Types whose values are so many that two random ones differ.
_UNIQUE = frozenset("string bigint uuid ulid datetime".split())
_SORTABLE = frozenset("string integer bigint decimal float boolean date time datetime uuid ulid".split())


def dumps(value: Any) -> str:
    """Write JSON with the exact digits of Decimals."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value)


# --- the manifest ----------------------------------------------------------------------


def make_manifest(seed: int, count: int = 40) -> Json:
    """Return a manifest of `count` resources of the application's own, in two versions."""
    return _Maker(random.Random(seed), count).manifest()


def own_resources(manifest: Json) -> Iterator[tuple[str, Json]]:
    """Yield (version, resource) of what the manifest itself declares."""
    for service in manifest["services"]:
        for resource in service["resources"]:
            yield service.get("version", "v1"), resource


def logic_files(manifest: Json) -> dict[str, str]:
    """Return logic classes for every route that needs one: path -> source."""
    files = {}
    for version, resource in own_resources(manifest):
        keys = [("action", action.get("name") or _key(action)) for action in _actions(resource)]
        if resource.get("type") == "logic":
            keys += [("operation", one) for one in resource["routes"].get("crud", [])]
        for number, (kind, key) in enumerate(keys):
            name = f"{resource['name'].replace('_', '')}{number}"
            files[f"logics/{version}/{resource['name'].lower()}/l{number}.py"] = (
                "from byodpp.logics import Logic\n\n\n"
                f"class {name}(Logic):\n"
                f"    resource, {kind} = {resource['name']!r}, {key!r}\n\n"
                "    async def execute(self):\n"
                f"        return {{'served': {key!r}, 'params': dict(self.request.params)}}\n"
            )
    return files


def _actions(resource: Json) -> list[Json]:
    found: list[Json] = resource.get("routes", {}).get("actions", [])
    return found


def _key(action: Json) -> str:
    return f"{action['url'].rsplit('/', 1)[-1]}:{action['method']}"


class _Maker:
    def __init__(self, dice: random.Random, count: int) -> None:
        self.dice = dice
        self.count = count
        self.made: list[Json] = []
        self.values = Values(dice.randrange(1 << 30))

    def manifest(self) -> Json:
        names = self.dice.sample(_NAMES, self.count - 4)
        for name in names:
            self.made.append(self._resource(name))
        for target in self.made:
            self._relations(target)
        v2 = [self._second_version(one) for one in self.dice.sample(self.made, 3)]
        self.made.append(self._logic())
        half = len(self.made) // 2
        services = [
            {"name": "left", "resources": self.made[:half]},
            {"name": "right side", "version": "v1", "resources": self.made[half:]},
            {"name": "next", "version": "v2", "resources": v2},
        ]
        return {"include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"], "services": services}

    def chance(self, percent: int) -> bool:
        return self.dice.randrange(100) < percent

    def _resource(self, name: str) -> Json:
        position = len(self.made)
        scope = ("tenant", "tenant", "tenant", "user", "shared", "library")[self.dice.randrange(6)]
        resource: Json = {"name": name, "id": ("bigint", "uuid7", "ulid")[position % 3], "scope": scope}
        if scope == "tenant" and self.chance(50):
            del resource["scope"]
        resource["fields"] = fields = {}
        words = self.dice.sample(_FIELDS, 12)
        kinds = self.dice.sample(_SIMPLE, 6) + [_SIMPLE[(position * 2 + step) % 15] for step in range(2)]
        for word, kind in zip(words, kinds, strict=False):
            fields[word] = self._field(kind)
        self._references(resource, words[8:10])
        if self.chance(25):
            fields["parentId"] = {"references": name, "as": "parent", "onDelete": self._on_delete()}
        if self.chance(30):
            resource["states"] = self._states(words[10])
        self._keys(resource)
        self._switches(resource)
        self._routes(resource, position)
        self._access(resource)
        return resource

    def _on_delete(self) -> str:
        return self.dice.choice(["restrict", "cascade", "setNull"])

    def _field(self, kind: str, *, nested: bool = False) -> Json:
        spec: Json = {"type": kind}
        getattr(self, f"_{kind}", lambda _: None)(spec)
        if self.chance(20):
            spec["title"] = self.dice.choice(_TITLES)
        if self.chance(15):
            spec["description"] = f"{self.dice.choice(_TITLES)}\nsecond line"
        if self.chance(35):
            spec["required"] = True
        elif self.chance(25):
            spec["default"] = self.values.sent(spec)
            if self.chance(40):
                spec["nullable"] = False
        if nested:
            spec.pop("locale", None)
            return spec
        if kind in _SORTABLE and kind != "boolean" and "enum" not in spec and "pattern" not in spec:
            if kind in _UNIQUE and not {"format", "minLength"} & spec.keys() and self.chance(20):
                spec.pop("default", None)
                spec.pop("nullable", None)
                spec["unique"] = self.dice.choice([True, True, "platform", "ever"])
            elif self.chance(30):
                spec["index"] = True
        if self.chance(30):
            spec["filterable"] = True
        if self.chance(8) and not spec.get("required"):
            spec["writeOnly"] = True
            spec.pop("filterable", None)
        elif self.chance(8) and not spec.get("required") and "unique" not in spec:
            spec["readOnly"] = True
        if self.chance(10):
            spec["personal"] = True
        return spec

    def _string(self, spec: Json) -> None:
        pick = self.dice.randrange(6)
        if pick == 0:
            spec["pattern"] = self.dice.choice(list(_PATTERNS))
        elif pick == 1:
            spec["format"] = self.dice.choice(list(_FORMATS))
        elif pick == 2:
            spec["enum"] = self.dice.sample(["draft", "", "Größe", "a,b", "null", "true", "'; --"], 4)
        elif pick == 3:
            spec |= {"minLength": 2, "maxLength": self.dice.choice([8, 255, 1000])}
        elif pick == 4:
            spec["locale"] = self.dice.choice(["de", "sv"])

    def _text(self, spec: Json) -> None:
        spec["maxLength"] = self.dice.choice([100, 2000])

    def _integer(self, spec: Json) -> None:
        pick = self.dice.randrange(4)
        if pick == 0:
            spec |= {"minimum": -5, "exclusiveMaximum": 100000}
        elif pick == 1:
            spec["multipleOf"] = 7
        elif pick == 2:
            spec["enum"] = [1, 2, 3, 500]

    def _bigint(self, spec: Json) -> None:
        if self.chance(50):
            spec["asString"] = True

    def _decimal(self, spec: Json) -> None:
        if self.chance(70):
            precision = self.dice.choice([4, 12, 38])
            spec |= {"precision": precision, "scale": self.dice.choice([0, 2, precision - 1])}
        if self.chance(30):
            spec["asString"] = True

    def _float(self, spec: Json) -> None:
        if self.chance(30):
            spec |= {"minimum": -1000, "maximum": 1000}

    def _object(self, spec: Json) -> None:
        kinds = self.dice.sample([one for one in _SIMPLE if one not in ("object", "array")], 4)
        names = self.dice.sample(["a", "@type", "$id", "x-y", "order", "b:c", "eq"], 4)
        spec["properties"] = {
            name: self._field(kind, nested=True) for name, kind in zip(names, kinds, strict=True)
        }
        if self.chance(30):
            spec["additionalProperties"] = True

    def _array(self, spec: Json) -> None:
        spec["items"] = self._field(self.dice.choice(_SIMPLE[:-1]), nested=True)
        for word in ("required", "default", "nullable", "title", "description"):
            spec["items"].pop(word, None)
        if self.chance(30):
            spec |= {"minItems": 1, "maxItems": 9}

    def _references(self, resource: Json, words: list[str]) -> None:
        reachable = {
            "tenant": {"tenant", "shared", "library"},
            "user": {"tenant", "shared", "library"},
            "library": {"shared", "library"},
            "shared": {"shared"},
        }[resource.get("scope", "tenant")]
        fits = [one for one in self.made if one.get("scope", "tenant") in reachable]
        for word in words:
            if fits and self.chance(75):
                spec: Json = {"references": self.dice.choice(fits)["name"], "onDelete": self._on_delete()}
                if spec["onDelete"] != "setNull" and self.chance(40):
                    spec["required"] = True
                if self.chance(40):
                    resource["fields"][word] = spec | {"as": f"{word}Relation"}
                else:
                    resource["fields"][f"{word}Id"] = spec
        names = [name for name in resource["fields"] if name.endswith("Id")]
        for name in names:  # a relation may not have the name of a field
            if name.removesuffix("Id") in resource["fields"]:
                resource["fields"][name]["as"] = f"{name}Row"

    def _states(self, field: str) -> Json:
        states: Json = {
            "initial": "draft",
            "transitions": {
                "publish": {"from": ["draft", "held"], "to": "published", "event": "thing.published"},
                "hold": {"from": "published", "to": "held"},
            },
        }
        if self.chance(50):
            states["field"] = f"{field}State"
        return states

    def _keys(self, resource: Json) -> None:
        plain = [
            name
            for name, spec in resource["fields"].items()
            if spec.get("type") in _SORTABLE and not spec.get("writeOnly")
        ]
        if len(plain) >= 2 and self.chance(40):
            resource["indexes"] = [plain[:2]]
        wide = [
            name
            for name in plain
            if resource["fields"][name]["type"] in ("bigint", "uuid", "ulid", "datetime")
            and not resource["fields"][name].get("readOnly")
            and "default" not in resource["fields"][name]
        ]
        if len(wide) >= 2:
            resource["unique"] = [{"fields": wide[:2], "within": self.dice.choice(["scope", "platform"])}]
        words = [name for name in plain if resource["fields"][name]["type"] == "string"]
        if words and self.chance(50):
            resource["search"] = words

    def _switches(self, resource: Json) -> None:
        if self.chance(50):
            resource["versioned"] = self.dice.choice([True, "required"])
        for word in ("softDelete", "audit", "events", "filterable"):
            if self.chance(30):
                resource[word] = True
        if self.chance(20):
            resource["title"] = self.dice.choice(_TITLES)
        if self.chance(20):
            resource["bounds"] = {"maxLimit": 50}

    def _routes(self, resource: Json, position: int) -> None:
        if self.chance(20):
            url = f"/shop{position}/things"
            resource["routes"] = {
                "crud": [
                    {"url": url, "method": "get"},
                    {"url": f"{url}/{{id}}", "method": "get"},
                    {"url": url, "method": "post"},
                    {"url": f"{url}/:id", "method": "put"},
                    "patch",
                    {"url": f"{url}/{{id}}", "method": "delete"},
                    "batch",
                ]
            }
        elif self.chance(30):
            resource["routes"] = {
                "actions": [
                    {"url": f"/{position:02}/{{gtin}}/21/{{serial}}", "method": "get", "name": "resolve"},
                    {"url": f"/x{position}/{{id}}/feature", "method": "post"},
                ]
            }

    def _access(self, resource: Json) -> None:
        read: list[Any] = ["Admin", "Viewer"]
        names = [name for name, spec in resource["fields"].items() if not spec.get("writeOnly")]
        if self.chance(40):
            read[1] = {"roles": ["Viewer"], "fields": ["id", *names[:3]]}
        text = [name for name in names if resource["fields"][name].get("type") == "integer"]
        if text and self.chance(60):
            read.append({"roles": ["Guest"], "filter": {text[0]: {"gte": 3}}})
            if resource.get("scope") != "user":
                read.append({"roles": ["public"], "filter": {text[0]: {"gte": 3}}})
        resource["access"] = {"read": read, "write": ["Admin"]}

    def _relations(self, target: Json) -> None:
        pairs = [
            (one["name"], name)
            for one in self.made
            for name, spec in one["fields"].items()
            if spec.get("references") == target["name"]
        ]
        for number, (name, field) in enumerate(pairs[:3]):
            target.setdefault("relations", {})[f"many{number}"] = {"resource": name, "foreignField": field}

    def _second_version(self, first: Json) -> Json:
        """The same table, some optional fields less, one more."""
        second = copy.deepcopy(first)
        for name in [name for name, spec in second["fields"].items() if not _mentioned(name, spec, second)]:
            if self.chance(40):
                del second["fields"][name]
        second["fields"]["addedInV2"] = {"type": "string", "filterable": True}
        second["routes"] = {"crud": ["list", "create", "read", "update", "patch", "delete", "batch"]}
        second.pop("relations", None)
        second["access"] = {"read": ["Admin"], "write": ["Admin"]}
        return second

    def _logic(self) -> Json:
        return {
            "name": "Exchange",
            "type": "logic",
            "routes": {
                "crud": ["list", "create", "read"],
                "actions": [{"url": "/api/v1/exchange/rate/now", "method": "get", "public": True}],
            },
            "access": {"read": ["Admin", "public"], "write": ["Admin"]},
        }


def _mentioned(name: str, spec: Json, resource: Json) -> bool:
    text = dumps({key: resource.get(key) for key in ("indexes", "unique", "search", "states")})
    return bool(spec.get("required")) or f'"{name}"' in text or spec.get("nullable") is False


# --- values ----------------------------------------------------------------------------


class Values:
    """Makes valid JSON values for fields, as Python objects with Decimals for exact numbers."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def sent(self, spec: Json) -> Any:
        """Return a value that the field accepts; never null."""
        if "enum" in spec:
            return self.dice.choice(spec["enum"])
        return getattr(self, f"_{spec['type']}")(spec)

    def _string(self, spec: Json) -> str:
        if "pattern" in spec:
            return _PATTERNS[spec["pattern"]]
        if "format" in spec:
            return self._formatted(spec["format"])
        alphabet = "abcXYZ019 äöß€製品😀'\"\\%_,;:/?#[]{}<>\t"
        most = min(spec.get("maxLength", 255), 40)
        length = self.dice.randint(max(spec.get("minLength", 0), 2), most)
        return "".join(self.dice.choice(alphabet) for _ in range(length))

    def _formatted(self, word: str) -> str:
        if word in ("uri", "email", "slug", "hostname"):
            return {
                "uri": "https://example.com/{}",
                "email": "a{}@example.com",
                "slug": "s-{}",
                "hostname": "h{}.example.com",
            }[word].format(self.dice.randrange(10**9))
        return _FORMATS[word]

    def _text(self, spec: Json) -> str:
        return self._string(spec) + "\n" + self._string(spec)

    def _integer(self, spec: Json) -> int:
        low, high = spec.get("minimum", -(2**31)), spec.get("exclusiveMaximum", 2**31) - 1
        step: int = spec.get("multipleOf", 1)
        number = self.dice.choice([low, high, self.dice.randint(low, high), self.dice.randint(0, 9)])
        return int(number / step) * step

    def _bigint(self, spec: Json) -> int | str:
        offset = self.dice.randrange(2**40)
        number = self.dice.choice(
            [offset - 2**63, 2**63 - 1 - offset, self.dice.randrange(2**60), 2**53 + offset]
        )
        return str(number) if spec.get("asString") else number

    def _decimal(self, spec: Json) -> Decimal | str:
        precision, scale = spec.get("precision", 30), spec.get("scale", 0 if "precision" in spec else 9)
        whole = precision - scale
        digits = "".join(self.dice.choice("0123456789") for _ in range(whole)).lstrip("0") or "0"
        places = "".join(self.dice.choice("0123456789") for _ in range(scale))
        text = digits + (f".{places}" if places else "")
        if text.strip("0.") and self.dice.randrange(3) == 0:
            text = "-" + text
        return text if spec.get("asString") else Decimal(text)

    def _float(self, spec: Json) -> float:
        if "minimum" in spec:
            return self.dice.uniform(-1000, 1000)
        return self.dice.choice([0.1, -2.5, 1e300, 5e-324, 1e15, 123456789.123, self.dice.random()])

    def _boolean(self, spec: Json) -> bool:
        return self.dice.random() < 0.5

    def _date(self, spec: Json) -> str:
        return date.fromordinal(self.dice.randint(1, 3_652_059)).isoformat()

    def _time(self, spec: Json) -> str:
        return time(
            self.dice.randrange(24), self.dice.randrange(60), 7, self.dice.randrange(1_000_000)
        ).isoformat()

    def _datetime(self, spec: Json) -> str:
        zone = timezone(timedelta(minutes=self.dice.choice([0, 120, -330, 845])))
        seconds = self.dice.randrange(4_000_000_000)
        moment = datetime(1960, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=seconds % 1000)
        return moment.astimezone(zone).isoformat()

    def _uuid(self, spec: Json) -> str:
        return str(uuid.UUID(int=self.dice.getrandbits(128)))

    def _ulid(self, spec: Json) -> str:
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        return self.dice.choice("01234567") + "".join(self.dice.choice(alphabet) for _ in range(25))

    def _json(self, spec: Json) -> Any:
        return self.dice.choice(
            [{"a": [1, Decimal("2.50"), None, {"ü": "x\n"}]}, [], {}, "text", 5, True, [[["deep"]]], {"": ""}]
        )

    def _object(self, spec: Json) -> Json:
        found = {
            name: self.sent(inner)
            for name, inner in spec["properties"].items()
            if inner.get("required") or self.dice.random() < 0.7
        }
        if spec.get("additionalProperties"):
            found["more"] = [1, {"x": None}]
        return found

    def _array(self, spec: Json) -> list[Any]:
        count = self.dice.randint(spec.get("minItems", 0), 4)
        return [self.sent(spec["items"]) for _ in range(count)]

    def shown(self, spec: Json, value: Any) -> Any:
        """Return what an answer must show for a value that was sent."""
        if value is None:
            return None
        kind = spec["type"]
        if kind == "datetime":
            moment = datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
            return moment.isoformat(timespec="microseconds") + "Z"
        if kind == "time":
            return time.fromisoformat(value).isoformat(timespec="microseconds")
        if kind == "array":
            return [self.shown(spec["items"], item) for item in value]
        if kind == "object":
            inner = spec["properties"]
            found = {
                name: self.shown(inner[name], item) if name in inner else item for name, item in value.items()
            }
            absent = {name: one["default"] for name, one in inner.items() if "default" in one}
            return {name: self.shown(inner[name], item) for name, item in absent.items()} | found
        return value
