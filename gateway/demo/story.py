"""The story: three old systems feed one patient's record.

Each scene sends through a real socket with a client that is not ours, says what came back, and
waits until the record shows what it must.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo import clients, documents, hl7_messages
from gateway.demo.hl7_messages import Result
from gateway.demo.people import CAMILLE, GABRIEL, MARTIN, TEST_ROOT, Patient
from gateway.demo.stage import DemonstrationFailed, Stage, wait_for
from gateway.demo.study import STUDY_UID, ct_study

INS = f"urn:oid:{TEST_ROOT}"
Resource = dict[str, Any]

EARLIER = (("20260519", "5.70", "68"), ("20260825", "6.40", "74"))
"""Day, glucose and creatinine of two earlier reports, so that there is something to plot."""


def must(what: str, truth: object) -> None:
    """Raise DemonstrationFailed unless ``truth``."""
    if not truth:
        raise DemonstrationFailed(what)


@dataclass
class Counted:
    """What the clients saw of one source: sent, and how it was answered."""

    sent: int = 0
    positive: int = 0
    negative: int = 0

    def answer(self, *, positive: bool) -> None:
        """Count one message and its answer."""
        self.sent += 1
        self.positive += positive
        self.negative += not positive


@dataclass
class Story:
    """Plays the scenes in order on a stage that has been started."""

    stage: Stage
    tell: Callable[[str, str], None]
    counted: dict[str, Counted] = field(default_factory=dict)

    def play(self) -> None:
        """All scenes. Raises DemonstrationFailed at the first that does not come out."""
        self.admission()
        self.laboratory_results()
        self.correction()
        self.letter()
        self.cda_report()
        self.ct_study()
        self.refused_at_the_door()
        self.waits_for_identity()
        self.opposition()
        self.dies_and_is_repaired()

    # --- the scenes ---------------------------------------------------------------

    def admission(self) -> None:
        """ADT^A01 opens the patient."""
        self._hl7("The hospital admits Camille", hl7_messages.admission(CAMILLE, "DPI-0001"), "AA")
        self._patient(CAMILLE)
        self.tell("record", "Camille has a record, under her INS; her IPP is cross-referenced")

    def laboratory_results(self) -> None:
        """ORU^R01 with ranges and flags, in ISO-8859-15."""
        results = (
            Result("2345-7", "Glucose", "6.10", "mmol/L", "3.90-5.50", "H"),
            Result("2823-3", "Potassium", "4.1", "mmol/L", "3.5-5.1", "N"),
            Result("2160-0", "Créatinine", "71", "µmol/L", "45-84", "N"),
            Result("1988-5", "CRP", "<1", "mg/L", "<5", "N", kind="SN"),
        )
        message = hl7_messages.laboratory_report(CAMILLE, "SGL-0001", "B0042", results)
        self._hl7("The laboratory sends four results (ISO-8859-15)", _sampled(message), "AA")
        wait_for("four observations", lambda: len(self._observations(CAMILLE)) >= 4)
        glucose = self._observation(CAMILLE, "2345-7")
        must("the glucose keeps its digits", _quantity(glucose) == "6.10")
        low = glucose["referenceRange"][0]["low"]["value"]
        self.tell("record", f"glucose {_quantity(glucose)} mmol/L, range from {low}, flagged high")
        for number, (day, glucose_was, creatinine_was) in enumerate(EARLIER, start=1):
            earlier = (
                Result("2345-7", "Glucose", glucose_was, "mmol/L", "3.90-5.50", "H"),
                Result("2160-0", "Créatinine", creatinine_was, "µmol/L", "45-84", "N"),
            )
            message = hl7_messages.laboratory_report(
                CAMILLE, f"SGL-000{number}E", f"B000{number}", earlier, time=f"{day}083000+0200"
            )
            self._hl7(f"Results of {day[6:]}/{day[4:6]}/{day[:4]}, sent late", message, "AA")
        wait_for("the earlier results", lambda: len(self._observations(CAMILLE)) >= 6)

    def correction(self) -> None:
        """The same result again, OBX-11 C: a new version, the old one stays readable."""
        first = self._observation(CAMILLE, "2345-7")
        results = (Result("2345-7", "Glucose", "5.20", "mmol/L", "3.90-5.50", "N", status="C"),)
        message = hl7_messages.laboratory_report(
            CAMILLE, "SGL-0002", "B0042", results, status="C", time="20261120113000+0100"
        )
        self._hl7("The laboratory corrects the glucose", message, "AA")
        wait_for(
            "the corrected glucose",
            lambda: _quantity(self._observation(CAMILLE, "2345-7")) == "5.20",
        )
        history = self.stage.http.fhir(f"Observation/{first['id']}/_history")
        must("both versions are readable", len(history.get("entry", [])) == 2)
        self.tell("record", "glucose 5.20 mmol/L, version 2; version 1 still says 6.10")

    def letter(self) -> None:
        """MDM^T02 with a PDF."""
        pdf = documents.pdf_letter(
            "Compte rendu de consultation",
            (
                "Patiente : LAMBERT Camille, née le 14/03/1985",
                "Consultation du 20/11/2026, service de cardiologie",
                "Électrocardiogramme normal. Pas d'anomalie à l'auscultation.",
                "Contrôle de la glycémie dans trois mois.",
                "Dr Hélène DURAND",
            ),
        )
        message = hl7_messages.letter(CAMILLE, "DPI-0002", pdf, document="L0001")
        self._hl7("The hospital sends a letter as PDF in MDM^T02", message, "AA")
        found = wait_for("the letter", lambda: self._documents(CAMILLE, "application/pdf"))
        url = found[0]["content"][0]["attachment"]["url"]
        must("the PDF comes back byte for byte", self.stage.http.binary(url) == pdf)
        self.tell("record", f"the letter, {len(pdf)} bytes, read back byte for byte")

    def cda_report(self) -> None:
        """A CDA laboratory report by HTTP."""
        document = documents.cda_laboratory_report(CAMILLE)
        status = self.stage.http.post_cda(document)
        self._count("practice", positive=status in (200, 201))
        self.tell("send", f"The practice posts a CDA laboratory report → HTTP {status}")
        must(f"HTTP 201 for the CDA, not {status}", status == 201)
        found = wait_for("the CDA document", lambda: self._documents(CAMILLE, "text/xml"))
        url = found[0]["content"][0]["attachment"]["url"]
        must("the CDA comes back byte for byte", self.stage.http.binary(url) == document)
        tsh = wait_for("the TSH", lambda: self._observation(CAMILLE, "3016-3"))
        self.tell("record", f"the document, and its results: TSH {_quantity(tsh)} mIU/L")

    def ct_study(self) -> None:
        """Four CT slices by C-STORE; one ImagingStudy once the study has been quiet."""
        statuses = clients.send_dicom(self.stage.dicom, "ECLUSE", ct_study(CAMILLE))
        for status in statuses:
            self._count("scanner", positive=status == 0)
        self.tell("send", f"The scanner stores {len(statuses)} CT images → status 0000 for each")
        must("every image is taken", statuses and not any(statuses))
        (study,) = wait_for("the study", lambda: self._imaging(CAMILLE))
        must("four instances", study["numberOfInstances"] == len(statuses))
        must("its UID", study["identifier"][0]["value"] == f"urn:oid:{STUDY_UID}")
        self.tell("record", f"one study, {study['numberOfInstances']} images, once it was quiet")

    def refused_at_the_door(self) -> None:
        """An unknown type, and bytes that are not what MSH-18 says."""
        unknown = hl7_messages.laboratory_report(
            CAMILLE, "SGL-0003", "B0043", (), message_type="ZZZ^Z99"
        )
        self._hl7("A message of a type that does not exist", unknown, "AR")
        wrong = hl7_messages.laboratory_report(
            CAMILLE,
            "SGL-0004",
            "B0044",
            (Result("2160-0", "Créatinine", "70", "µmol/L", "45-84"),),
            charset="UNICODE UTF-8",
        )
        self._hl7("A message in Latin-9 that says it is UTF-8", wrong, "AE")
        self.tell("held", "both are kept as evidence, with the reason; nothing of them is guessed")

    def waits_for_identity(self) -> None:
        """A result without an INS waits; the ADT that brings the INS lets it go."""
        results = (Result("718-7", "Hémoglobine", "14.2", "g/dL", "13.0-17.0", "N"),)
        message = hl7_messages.laboratory_report(
            GABRIEL, "SGL-0005", "B0045", results, with_ins=False
        )
        self._hl7("A result for Gabriel, known by his IPP only", message, "AA")
        wait_for("the result to be held", lambda: self._held() == 1)
        self.tell("held", "it waits: nobody has said yet whose INS this IPP is")
        update = hl7_messages.admission(GABRIEL, "DPI-0003", event="A31")
        self._hl7("The hospital sends Gabriel's INS (ADT^A31)", update, "AA")
        self._patient(GABRIEL)
        wait_for("the result", lambda: self._observation(GABRIEL, "718-7"))
        must("nothing waits any more", self._held() == 0)
        self.tell("record", "the result went by itself")

    def opposition(self) -> None:
        """ZFA-9 IO refuses what follows; INO lets it flow again."""
        self._hl7(
            "Gabriel opposes the feeding of his record (ZFA-9 IO)",
            hl7_messages.permission(GABRIEL, "DPI-0004", opposed=True),
            "AA",
        )
        wait_for("the opposition to be noted", self._settled)
        results = (Result("2345-7", "Glucose", "5.0", "mmol/L", "3.90-5.50", "N"),)
        refused = hl7_messages.laboratory_report(GABRIEL, "SGL-0006", "B0046", results)
        self._hl7("A result for Gabriel while he opposes", refused, "AE")
        self._hl7(
            "He takes his opposition back (ZFA-9 INO)",
            hl7_messages.permission(GABRIEL, "DPI-0005", opposed=False),
            "AA",
        )
        wait_for("the withdrawal to be noted", self._settled)
        again = hl7_messages.laboratory_report(GABRIEL, "SGL-0007", "B0047", results)
        self._hl7("The next result for Gabriel", again, "AA")
        wait_for("the result", lambda: self._observation(GABRIEL, "2345-7"))
        must("only the permitted one is there", len(self._observations(GABRIEL)) == 2)
        self.tell("record", "refused while he opposed, and flowing again after")

    def dies_and_is_repaired(self) -> None:
        """A wrong INS key: a dead letter, repaired and replayed."""
        results = (Result("4544-3", "Hématocrite", "42", "%", "40-50", "N"),)
        wrong_key = MARTIN.ins[:13] + f"{(int(MARTIN.ins[13:]) + 1) % 97:02d}"
        dying = hl7_messages.laboratory_report(MARTIN, "SGL-0008", "B0048", results, ins=wrong_key)
        self._hl7("A result whose INS has a wrong key", dying, "AA")
        letters = wait_for("the dead letter", lambda: self.stage.ecluse("dead", "list"))
        letter = letters[0]
        self.tell("dead", f"dead letter {letter['id']}: {letter['cause']['title']}")
        repaired = hl7_messages.laboratory_report(MARTIN, "SGL-0008", "B0048", results)
        path = Path(self.stage.folder) / "repaired.hl7"
        path.write_bytes(repaired)
        self.tell("run", f"ecluse dead replay {letter['id']} --with repaired.hl7")
        self.stage.ecluse(
            "dead", "replay", str(letter["id"]), "--with", str(path), "--reason",
            "the laboratory confirmed the INS",
        )  # fmt: skip
        self._patient(MARTIN)
        wait_for("the repaired result", lambda: self._observation(MARTIN, "4544-3"))
        must("no dead letter is left", not self.stage.ecluse("dead", "list"))
        self.tell("record", "the repaired copy went; the original is untouched, and linked")

    # --- what the scenes share ----------------------------------------------------

    def _hl7(self, what: str, message: bytes, expected: str) -> None:
        answer = clients.send_hl7(self.stage.mllp, message)
        code = clients.acknowledgement_code(answer)
        self._count("hospital", positive=code in ("AA", "CA"))
        self.tell("send", f"{what} → {code}")
        must(f"{what}: expected {expected}, got {code}", code == expected)

    def _count(self, source: str, *, positive: bool) -> None:
        self.counted.setdefault(source, Counted()).answer(positive=positive)

    def _patient(self, patient: Patient) -> str:
        return wait_for(
            "the patient's record", lambda: self.stage.http.patient_id(INS, patient.ins)
        )

    def _of(self, kind: str, patient: Patient) -> list[Resource]:
        return self.stage.http.resources(kind, self._patient(patient))

    def _observations(self, patient: Patient) -> list[Resource]:
        return self._of("Observation", patient)

    def _observation(self, patient: Patient, loinc: str) -> Resource:
        """The latest observation of an analyte, or ``{}``."""
        found = [
            resource
            for resource in self._observations(patient)
            if any(coding.get("code") == loinc for coding in resource["code"].get("coding", []))
        ]
        return max(found, key=lambda each: str(each.get("effectiveDateTime", "")), default={})

    def _documents(self, patient: Patient, media_type: str) -> list[Resource]:
        return [
            resource
            for resource in self._of("DocumentReference", patient)
            if resource["content"][0]["attachment"].get("contentType") == media_type
        ]

    def _imaging(self, patient: Patient) -> list[Resource]:
        return self._of("ImagingStudy", patient)

    def _held(self) -> int:
        return sum(line["held"] for line in self.stage.ledger().values())

    def _settled(self) -> bool:
        return all(line["pending"] == 0 for line in self.stage.ledger().values())


def _quantity(observation: Resource) -> str:
    return str(observation.get("valueQuantity", {}).get("value", ""))


def _sampled(message: bytes) -> bytes:
    """SN wants comparator and number as components of OBX-5."""
    return message.replace(b"|<1|mg/L", b"|<^1|mg/L")
