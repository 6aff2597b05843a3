"""Messages made wrong: seeds of every kind, cut, joined and sprinkled with what matters."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import strategies as st

HEAD = b"MSH|^~\\&|SGL|LABO|E|CHU|20261120093000+0100||%b|C1|P|%b|||||FRA|%b||%b\r"
BODY = (
    b"PID|1||285^^^INS&1.2.250.1.213.1.4.10&ISO^INS~8^^^CHU&2.999.1&ISO^PI||NO\xc3\x8bL^G||1985|F\r"
    b"PV1|1|I\rORC|RE|B1\rOBR|1|B1|B1|24323-8^Bilan^LN|||20261120\r"
    b"OBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L|3.9-5.5|N|||F\r"
    b"OBX|2|FT|A^B^L||a\\.br\\b\\XE9\\\\T\\\\C2D46\\x~y&z||||||F\rNTE|1||\"\"\rZZZ|1|x\r"
)  # fmt: skip
KINDS = (b"ORU^R01^ORU_R01", b"ADT^A01", b"MDM^T02^MDM_T02", b"ACK", b"ZZZ^Z99", b"")
VERSIONS = (b"2.5", b"2.1", b"2.3.1", b"2.7", b"2.8.2", b"2.9", b"x")
NAMES = (
    b"UNICODE UTF-8", b"8859/1", b"8859/15", b"WINDOWS-1252", b"ASCII~ISO IR87", b"~ISO IR87",
    b"8859/1~8859/7", b"GB 18030-2000", b"BIG-5", b"KS X 1001", b"CNS 11643-1992", b"EBCDIC",
    b"UNICODE UTF-16", b"",
)  # fmt: skip
SEEDS = (
    [
        HEAD % (kind, version, name, scheme) + BODY
        for kind in KINDS[:3]
        for version in VERSIONS[:4]
        for name in NAMES
        for scheme in (b"", b"2.3")
    ]
    + [(HEAD % (KINDS[0], b"2.5", name, b"") + BODY).replace(b"~", "˜".encode()) for name in NAMES]
    + [HEAD % (kind, version, NAMES[0], b"") + BODY for kind in KINDS for version in VERSIONS]
)
TOKENS = [
    *(bytes([byte]) for byte in b"|^~\\&#\r\n\0\x0b\x1c\x1b \""), b"\x1c\r", b"\r\n", b"\\", b"\\E\\",
    b"\\X00\\", b"\\X", b"\\.sp99\\", b"\\M2442\\", b"\\C2842\\", b"\\C", b"\x1b$B", b"\x1b(B",
    b"\x1b-F", b"\x1b%G", b"MSH|^~\\&|", b"MSH", b"\rPID|", b"\rOBX|", b"\rMSH|^~\\&|", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\xc3", b"\xe9", b"\x81", b"\xff", "é€𠀀".encode(), b'""', b"(2)", b"9" * 40, b"|" * 60,
    b"^" * 60, b"&" * 60, b"~" * 60, b"\\" * 61,
]  # fmt: skip


def corpus(folder: Path, most: int = 400, bytes_max: int = 4000) -> list[bytes]:
    """Small messages of the shared corpora, for seeds; none when they are absent."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path.read_bytes() for path in paths if 0 < path.stat().st_size <= bytes_max][:most]


def archives() -> list[bytes]:
    """Archives of XDM: a good one, and some that are not."""
    from tests.hostile import ARCHIVES, ONE
    from tests.integration.xdm.archives import archive

    made = [archive(ONE), *(make() for make, _, _ in ARCHIVES.values())]
    return [each for each in made if len(each) < 20_000]


def packages() -> list[bytes]:
    """Submissions of XDS in MTOM: a good one, and some that are not."""
    from tests.integration.xds.test_xds_refusals import FAULTS, METADATA, one

    made = [one()[0], *(make() for make, _ in METADATA.values())]
    made += [make()[0] for make, _, _ in FAULTS.values()]
    return [each for each in made if len(each) < 20_000]


def seeds_of(target: str) -> list[bytes]:
    """What a target begins with."""
    from tests.conftest import REPOSITORY

    if target == "unpacking":
        return archives()
    if target == "submitting":
        return packages()
    return SEEDS + corpus(REPOSITORY.parent / "shared" / "corpora" / "hl7v2")


def mutated(chance: Random, seeds: list[bytes]) -> bytes:
    """One seed with a few wrongs."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(0, 6)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 6):
            case 0:
                data[at:at] = chance.choice(TOKENS)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2 if at < len(data):
                data[at] ^= 1 << chance.randint(0, 7)
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 200)] * chance.randint(1, 4)
            case 4:
                other = chance.choice(seeds)
                data[at:] = other[chance.randint(0, len(other)) :]
            case 5:
                data[at : at + 1] = chance.randbytes(chance.randint(1, 8))
            case _:
                data = data.replace(chance.choice(TOKENS[:8]), chance.choice(TOKENS), 3)
    if chance.random() < 0.3:
        data = bytearray(b"\x0b" + bytes(data) + b"\x1c\r")
    return bytes(data[:65_536])


def messages(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """The same for Hypothesis, which makes what fails small."""
    piece = st.one_of(
        st.sampled_from(TOKENS), st.binary(max_size=12), st.text(max_size=8).map(str.encode)
    )
    whole = st.sampled_from(seeds)
    cut = st.builds(lambda data, at: data[: at % (len(data) + 1)], whole, st.integers(0, 9999))
    rest = st.builds(lambda data, at: data[at % (len(data) + 1) :], whole, st.integers(0, 9999))
    return st.lists(st.one_of(cut, piece, rest), max_size=6).map(b"".join)
