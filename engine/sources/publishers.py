"""What publishers say of their sets: version, licence, page and citation, once for the readers and the catalogue."""

from typing import NamedTuple


class Publication(NamedTuple):
    """One version of a public set under the name that it has here; ``url`` is the page where it is presented."""

    name: str
    version: str
    licence: str
    url: str
    citation: str


PTB_XL = Publication(
    name="ptb-xl",
    version="1.0.3",
    licence="CC BY 4.0",
    url="https://physionet.org/content/ptb-xl/1.0.3/",
    citation="Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Sci Data 7:154 (2020)",
)
BRUGADA_HUCA = Publication(
    name="brugada-huca",
    version="1.0.0",
    licence="CC BY-SA 4.0",
    url="https://physionet.org/content/brugada-huca/1.0.0/",
    citation="Costa Cortez and Garcia Iglesias, Brugada-HUCA: 12-lead ECG recordings for the study of Brugada syndrome,"
    " PhysioNet, doi:10.13026/0m2w-dy83 (2026)",
)
CHALLENGE_2011 = Publication(
    name="challenge-2011",
    version="1.0.0",
    licence="ODC-By 1.0",
    url="https://physionet.org/content/challenge-2011/1.0.0/",
    citation="Silva et al., Improving the quality of ECGs collected using mobile phones,"
    " Computing in Cardiology 38:273 (2011)",
)
CHALLENGE_2015 = Publication(
    name="challenge-2015",
    version="1.0.0",
    licence="ODC-By 1.0",
    url="https://physionet.org/content/challenge-2015/1.0.0/",
    citation="Clifford et al., Reducing false arrhythmia alarms in the ICU, Computing in Cardiology 42:273 (2015)",
)
CHALLENGE_2017 = Publication(
    name="challenge-2017",
    version="1.0.0",
    licence="ODC-By 1.0",
    url="https://physionet.org/content/challenge-2017/1.0.0/",
    citation="Clifford et al., AF classification from a short single lead ECG recording,"
    " Computing in Cardiology 44 (2017)",
)
LUDB = Publication(
    name="ludb",
    version="1.0.1",
    licence="ODC-By 1.0",
    url="https://physionet.org/content/ludb/1.0.1/",
    citation="Kalyakulina et al., LUDB: a new open-access validation tool for electrocardiogram delineation algorithms,"
    " IEEE Access 8:186181 (2020)",
)
CHALLENGE_2021 = Publication(
    name="challenge-2021",
    version="1.0.3",
    licence="CC BY 4.0",
    url="https://physionet.org/content/challenge-2021/1.0.3/",
    citation="Reyna et al., Will two do? Varying dimensions in electrocardiography, Computing in Cardiology 48 (2021)",
)
CHAGAS_2025 = Publication(
    name="chagas-2025",
    version="2025",
    licence="CC BY 4.0",
    url="https://moody-challenge.physionet.org/2025/",
    citation="Reyna et al., Detection of Chagas disease from the ECG: the George B. Moody PhysioNet Challenge 2025,"
    " arXiv:2510.02202 (2025), with CODE-15% (doi:10.5281/zenodo.4916206), SaMi-Trop (doi:10.5281/zenodo.4905618) and"
    " PTB-XL (Wagner et al., Sci Data 7:154, 2020)",
)
PTB = Publication(
    name="ptb",
    version="1.0.0",
    licence="ODC-By 1.0",
    url="https://physionet.org/content/ptbdb/1.0.0/",
    citation="Bousseljot et al., Nutzung der EKG-Signaldatenbank CARDIODAT der PTB über das Internet,"
    " Biomed Tech 40:S317 (1995)",
)
CODE_TEST = Publication(
    name="code-test",
    version="1.0.3",
    licence="CC BY 4.0",
    url="https://doi.org/10.5281/zenodo.3765780",
    citation="Ribeiro et al., Automatic diagnosis of the 12-lead ECG using a deep neural network,"
    " Nat Commun 11:1760 (2020)",
)


PUBLICATIONS = {
    one.name: one
    for one in (PTB_XL, BRUGADA_HUCA, CHALLENGE_2011, CHALLENGE_2015, CHALLENGE_2017, LUDB, CHALLENGE_2021,
                CHAGAS_2025, PTB, CODE_TEST)
}  # fmt: skip
