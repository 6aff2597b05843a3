"""Write adapters/dicom/vocabulary.txt: the words that may stay in cleaned descriptors.

    python tools/build_vocabulary.py

Words of anatomy and acquisition are those of the meanings of codes in context groups of PS3.16, as
pydicom (MIT) has them; single words are taken, no definitions. Added by hand are what protocols are
called by in English and French. Left out are single letters, names of persons in terms of anatomy,
and words that say nothing of an image but are names elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.sr import _cid_dict, _concepts_dict

from adapters.dicom.identifying import words_of

TARGET = Path(__file__).resolve().parent.parent / "adapters/dicom/vocabulary.txt"
GROUPS = (2, 4, 6, 12, 19, 20, 26, 29, 33, 244, 4009, 4010, 4011, 4014, 4015, 4030, 4031, 4040,
          4042, 6312, 6349)  # fmt: skip
"""Anatomic modifier and region, transducer orientation, contrast agent, patient orientation with
modifier, projections, modalities, laterality, anatomy and views of radiography, mammography, CT, MR,
PET, endoscopy and angiography, planes, coils."""
MODALITIES = 29
LEFT_OUT = """
boyd broad common deep dodd edge en field five four great hard hunterian key long model object
other record result short small trendelenburg two value water willis world
"""
BY_HAND = """
2d 3d 4d ac adc angio angiography ap arterial asl attenuation average ax axial axis b0 bolus bold
bone breath breathhold calcium cardiac care cc cerebral ce chest cine contrast cor coronal corrected
cta ctac cystogram delayed dicom diffusion dixon doppler dose dti dual dwi dynamic early ecg echo
energy enhanced epi excretory expiration extremity fast fat fatsat ffe fiesta filter first flair
flash flow fluoro fluoroscopy free fs fse functional gadolinium gated gradient gre haste head helical
high hires hr hrct inspiration intravenous inversion iodine iv kernel late lat lateral ll lm loc
localizer localiser low lower lt lung maximum mediastinum mip ml mlo motion mpr mprage mra mri mrv
multiphase nac native nephrographic neck no noncontrast npa oblique opposed overview pa parenchyma
pass pd pelvis perfusion phase pilot plain plane portal post pre preliminary propeller protocol
proton quick raw recon reconstruction recovery reformat reformatted report resolution respiratory
rest routine rt sag sagittal sat saturation scan scout screening se sequence series sharp short slab
slice smooth soft space spgr spin spiral standard static stir stress study subtraction suppressed
suppression survey susceptibility swi t1 t1w t2 t2w test thick thin timing tissue tof tomo
tomosynthesis topogram tra transverse triggered trufi true tse turbo upper vascular venous vibe view
volume vr wb weighted whole window with without wo
abdominal abdominale abdominopelvien aorte artère artères artériel assis avec axiale axiales bassin
bilan bilatéral bras buccal bronches cardiaque cerveau cervical cervicale cheville clavicule
colonne contraste contrôle coronale coronales coude cou coupe coupes couché crâne cuisse cérébral
cérébrale côtes debout diffusion doigt dorsal dosimétrie droit droite droits décubitus encéphale
examen expiration face foie genou genoux gauche gril hanche hanches inférieur inférieurs injecté
injection inspiration irm jambe lombaire main mains mammographie membre membres médiastin orteil
osseux os ovaires pancréas parenchyme pelvien pelvienne perfusion pied pieds poignet portal poumon
poumons produit profil précoce rachis radio radiographie rate rein reins reconstruction sagittale
sagittales sacrum sans scanner sein seins supérieur supérieurs tardif tdm temps thorax thoracique
thyroïde tête utérus veine veines veineux vessie vésicule échographie épaule épaules
"""


def build() -> str:
    """The vocabulary, a word a line."""
    words = {folded for _, folded in words_of(BY_HAND)}
    for group in GROUPS:
        for scheme, keywords in _cid_dict.cid_concepts[group].items():
            for keyword in keywords:
                for code, (meaning, groups) in _concepts_dict.concepts[scheme][keyword].items():
                    if group in groups:
                        words.update(folded for _, folded in words_of(meaning))
                        if group == MODALITIES:
                            words.update(folded for _, folded in words_of(code))
    words -= {folded for _, folded in words_of(LEFT_OUT)}
    kept = sorted(word for word in words if len(word) > 1 and not word.isdigit())
    head = (
        "# Words that may stay in cleaned descriptors, written by tools/build_vocabulary.py from\n"
        "# context groups of DICOM PS3.16 and a list of what protocols are called by.\n"
    )
    return head + "\n".join((*kept, "x ray")) + "\n"


if __name__ == "__main__":
    TARGET.write_text(build(), encoding="utf-8")
