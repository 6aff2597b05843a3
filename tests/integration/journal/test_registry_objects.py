"""What submissions registered, on both databases."""

from __future__ import annotations

from gateway.journal import registry_objects, submission_sets
from gateway.journal.journal import Journal
from gateway.model import RegistryKind, RegistryObject

SET, ENTRY, FOLDER = (f"urn:uuid:00000000-0000-4000-8000-00000000000{n}" for n in range(3))
MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"


def made(identifier: str, kind: RegistryKind, **more: str) -> RegistryObject:
    return RegistryObject(
        id=identifier, kind=kind, submission=SET, facts="{}", content=f"<x id='{identifier}'/>",
        **{"unique_id": identifier[-3:], "patient": "1^^^&1.2&ISO", **more},  # type: ignore[arg-type]
    )  # fmt: skip


def test_objects_are_found_by_all_that_names_them(journal: Journal) -> None:
    links = [
        made(f"{ENTRY[:-1]}{7 + number}", RegistryKind.ASSOCIATION, unique_id="", type=MEMBER,
             source=source, target=ENTRY)
        for number, source in enumerate((SET, FOLDER))
    ]  # fmt: skip
    given = [
        made(SET, RegistryKind.SUBMISSION_SET), made(ENTRY, RegistryKind.DOCUMENT),
        made(FOLDER, RegistryKind.FOLDER), *links,
    ]  # fmt: skip
    at = journal.now()
    with journal.write() as connection:
        for digest in ("a" * 64, "b" * 64, "a" * 64):  # the second is another set of that name
            stands = submission_sets.note(
                connection, "2.999.1", source="x", digest=digest, objects=given, at=at
            )
            assert stands == "a" * 64
    with journal.read() as connection:
        found = registry_objects.by_id(connection, [ENTRY, SET, "urn:uuid:x"])
        assert {each.id for each in found} == {ENTRY, SET}
        assert {each.registered_at for each in found} == {at}
        [entry] = registry_objects.by_unique_id(connection, RegistryKind.DOCUMENT, [ENTRY[-3:]])
        assert (entry.id, entry.content) == (ENTRY, given[1].content)
        assert registry_objects.ids_by_unique_id(
            connection, RegistryKind.FOLDER, [FOLDER[-3:], ENTRY[-3:]]
        ) == {FOLDER[-3:]: FOLDER}
        mine = registry_objects.of_patients(
            connection, RegistryKind.FOLDER, ["1^^^&1.2&ISO", "2"], limit=9
        )
        assert [each.id for each in mine] == [FOLDER]
        assert {each.id for each in registry_objects.linked(connection, [ENTRY], limit=9)} == {
            each.id for each in links
        }
        assert len(registry_objects.linked(connection, [ENTRY, SET], limit=1)) == 2
        pointing = registry_objects.pointing_to(connection, [ENTRY], [MEMBER])
        assert sorted(pointing) == [(SET, ENTRY), (FOLDER, ENTRY)]
        assert registry_objects.pointing_to(connection, [ENTRY], ["urn:x"]) == []
