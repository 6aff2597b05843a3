"""Of descriptors only the words of a list stay, and none that identifies (PS3.15 E.3.5)."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset

from adapters.dicom.changing import changes_of
from adapters.dicom.identifying import descriptor_attributes, folded, words_of
from adapters.dicom.profile import BasicProfile
from adapters.dicom.rule_files import RuleError, steps_of
from adapters.dicom.vocabulary import Vocabulary, VocabularyError, read_vocabulary

SHIPPED = read_vocabulary([None])
NOBODY: frozenset[str] = frozenset()


def profile(vocabulary: Vocabulary = SHIPPED) -> BasicProfile:
    return BasicProfile(b"0123456789abcdef0123", frozenset({"descriptors"}), vocabulary=vocabulary)


def exam(description: str = "CT chest abdomen pelvis - 55F Dr. Smith") -> Dataset:
    found = Dataset()
    found.PatientName, found.PatientID = "LHERMITTE^Zoé^^Mme", "285036938201797"
    found.AccessionNumber, found.ReferringPhysicianName = "A77-CHU", "HAND^Hélène"
    found.InstitutionName, found.StudyInstanceUID = "Clinique de la Hanche", "1.2.3"
    found.StudyDescription = description
    return found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        # The standard's own examples, E.3.5 note 2.
        ("CT chest abdomen pelvis - 55F Dr. Smith", "CT chest abdomen pelvis"),
        ("Dr. Hand", ""),
        ("IRM M. Genou", "IRM"),
        ("GENOU DROIT", "GENOU DROIT"),
        ("Crâne sans injection (Mme Main Gauche)", "Crâne sans injection"),
        ("T2_FLAIR ax 3D 5mm 20260101", "T2 FLAIR ax 3D"),
        ("20260101 12:30 1.2.840.1 0601020304 n° 285036938201797", ""),
        ("x-ray of the left hand", "x ray of left hand"),
        ("THORAX\u200bDUPONT hand\u0301ax che\u00adst", "chest"),
        ("\uff34\uff28\uff2f\uff32\uff21\uff38 face", "\uff34\uff28\uff2f\uff32\uff21\uff38 face"),
        ("", ""),
    ],
)  # fmt: skip
def test_only_words_of_the_list_stay(text: str, left: str) -> None:
    assert SHIPPED.cleaned(text, NOBODY) == left


def test_words_of_an_identity_go_whatever_the_list_says() -> None:
    found = exam("Hand hanche LA CLINIQUE chu abdomen lhermitté A77")
    found.RequestAttributesSequence = [Dataset()]
    request = found.RequestAttributesSequence[0]
    request.ScheduledProcedureStepDescription = "knee HAND zoe"
    request.ScheduledProcedureStepID = "abdomen"
    request.RequestedProcedureID = "77"
    meaning = Dataset()
    meaning.CodeMeaning = "Knee of Zoé"
    request.RequestedProcedureCodeSequence = [meaning]
    found.SeriesDescription, found.ProtocolName = "Axial", "Dr Zoé"
    found.ImageComments, found.PatientComments = "spine\nLhermitte, cervical", "knows Dr Axial"
    found.AdmittingDiagnosesDescription = ["knee", "Zoé", "shoulder"]
    found.ReasonForTheRequestedProcedure = ""
    found.OriginalAttributesSequence = [Dataset()]
    found.OriginalAttributesSequence[0].SourceOfPreviousValues = "CERVICAL"
    profile().apply(found)
    # The procedure step's ID says abdomen, so that abdomen is no word of this object's.
    assert "StudyDescription" not in found
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "knee"
    assert "ScheduledProcedureStepID" not in found.RequestAttributesSequence[0]
    assert "RequestedProcedureCodeSequence" not in found.RequestAttributesSequence[0]
    assert found.SeriesDescription == "Axial"
    assert found.ProtocolName == "REMOVED"
    assert found.ImageComments == "spine"
    assert "PatientComments" not in found
    assert found.AdmittingDiagnosesDescription == ["knee", "shoulder"]
    codes = [each.CodeValue for each in found.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105"]


def test_without_the_option_descriptors_go() -> None:
    found = exam("CT chest")
    BasicProfile(b"0123456789abcdef0123", frozenset()).apply(found)
    assert "StudyDescription" not in found


def test_no_descriptor_stays_for_want_of_an_action() -> None:
    for tag in sorted(descriptor_attributes()):
        found = exam("")
        if dictionary_has_tag(tag) and dictionary_VR(tag) not in {"LO", "SH", "ST", "LT", "UT"}:
            continue
        found.add_new(tag, "LO", "nobody knows this")
        profile().apply(found)
        assert "nobody" not in str(found), hex(tag)


def test_the_attributes_are_those_of_the_standard() -> None:
    listed = descriptor_attributes()
    assert {0x00081030, 0x0008103E, 0x00181030, 0x00204000, 0x00400254} <= listed
    # What names somebody is none of them.
    assert listed.isdisjoint({0x00100010, 0x00100020, 0x00080050, 0x00080080, 0x00081070})


def written(folder: Path, words: str, vocabulary: str = "[words.txt]") -> Path:
    (folder / "secret").write_text("0123456789abcdef", encoding="utf-8")
    (folder / "words.txt").write_text(words, encoding="utf-8")
    path = folder / "rules.yaml"
    path.write_text(
        "rules: trial\nsteps:\n  - {deidentify: basic, keep: [descriptors], secret_file: secret,"
        f" vocabulary: {vocabulary}, reason: series are told apart}}\n",
        encoding="utf-8",
    )
    return path


def test_a_site_has_words_and_phrases_of_its_own(tmp_path: Path) -> None:
    text = "# of ours\nprotocole B12\nÀ jeun # a phrase\ngrêle\n"
    (change,) = changes_of(steps_of((written(tmp_path, text),)))
    found = exam("PROTOCOLE b12 protocole GRELE a jeun jeun abdomen")
    change(found)
    assert found.StudyDescription == "PROTOCOLE b12 GRELE a jeun"
    both = written(tmp_path, text, "[default, words.txt]")
    (change,) = changes_of(steps_of((both,)))
    found = exam("grêle abdomen jeun")
    change(found)
    assert found.StudyDescription == "grêle abdomen"


def test_a_list_that_lets_too_much_through_is_not_taken(tmp_path: Path) -> None:
    text = "thorax\n2026\ncase 12\nA12345\nDr Main\n---\na b c d e f g h i\n"
    steps = steps_of((written(tmp_path, text),))
    with pytest.raises(RuleError) as caught:
        changes_of(steps)
    lines = [each.split("words.txt:")[1].split(":")[0] for each in caught.value.problems]
    assert lines == ["2", "3", "4", "5", "6", "7"]
    for problem, path in (("cannot be read", tmp_path / "none"), ("not UTF-8", tmp_path / "bytes")):
        (tmp_path / "bytes").write_bytes(b"\xff")
        with pytest.raises(VocabularyError, match=problem):
            read_vocabulary([path])
    (tmp_path / "large").write_text("\n".join(f"w{n:x}w" for n in range(150_000)), "utf-8")
    with pytest.raises(VocabularyError, match="larger than"):
        read_vocabulary([tmp_path / "large"])
    (tmp_path / "many").write_text("thorax\n" * 20_001, "utf-8")
    with pytest.raises(VocabularyError, match="more than"):
        read_vocabulary([tmp_path / "many"])


LETTERS = st.text("abcdefghijklmnopqrstuvwxyzéèçñöøœßłı", min_size=1, max_size=8)
LISTED = st.sampled_from(["chest", "crâne", "T2", "ax", "hand", "knee", "left", "x ray"])
WORD = st.one_of(LETTERS, LISTED, st.from_regex("[0-9A-F]{1,6}", fullmatch=True))
BETWEEN = st.text(" -_/.,;:()^=\n'+*", min_size=1, max_size=3)


def disguised(draw: Any, word: str) -> str:
    """The same word in another case, with accents more or fewer, or in full width."""
    form = draw(st.sampled_from(["as it is", "upper", "title", "plain", "accents", "decomposed"]))
    if form == "upper":
        return word.upper()
    if form == "title":
        return word.title()
    if form == "plain":
        return folded(word)
    if form == "accents":
        return "".join(unicodedata.normalize("NFC", f"{each}\u0301") for each in word)
    return unicodedata.normalize("NFD", word) if form == "decomposed" else word


@st.composite
def named(draw: Any) -> tuple[Dataset, set[str]]:
    """An object and its identifying words; they stand in its descriptors too."""
    found = exam()
    words = draw(st.lists(WORD, min_size=6, max_size=6))
    found.PatientName = f"{words[0]}^{words[1]}"
    found.PatientID, found.AccessionNumber = words[2], words[3]
    found.ReferringPhysicianName, found.InstitutionName = words[4], words[5]
    step = Dataset()
    step.PerformingPhysicianName = draw(WORD)
    found.ReferencedStudySequence = [step]
    others = draw(st.lists(WORD, max_size=6))
    parts = draw(st.permutations([*words, str(step.PerformingPhysicianName), *others]))
    text = "".join(f"{disguised(draw, part)}{draw(BETWEEN)}" for part in parts)
    found.StudyDescription, found.ImageComments = text[:64], text
    said = [*words, str(step.PerformingPhysicianName)]
    return found, {word for each in said for _, word in words_of(each)}


@settings(max_examples=60, deadline=None)
@given(named())
def test_no_word_of_an_identity_survives(made: tuple[Dataset, set[str]]) -> None:
    found, identity = made
    profile().apply(found)
    for keyword in ("StudyDescription", "ImageComments"):
        left = {word for _, word in words_of(str(found.get(keyword, "")))}
        assert not left & identity
        listed = {word for phrase in SHIPPED.phrases() for word in phrase}
        assert left <= listed


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sets(st.sampled_from(["chest", "ax", "hand"])))
def test_nothing_comes_back(text: str, identity: set[str]) -> None:
    """Of any text at all: what is left are its own words, in their order, each on the list."""
    text = f"{text} chest-{text}ax {text}"
    left = SHIPPED.cleaned(text, frozenset(identity))
    before = [written for written, _ in words_of(text)]
    place = iter(before)
    assert all(written in place for written, _ in words_of(left))
    listed = {word for phrase in SHIPPED.phrases() for word in phrase}
    words = {word for _, word in words_of(left)}
    assert words <= listed - identity
    assert SHIPPED.cleaned(left, frozenset(words)) == ""
