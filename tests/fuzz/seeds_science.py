"""Small good files of biology and chemistry."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from pack_targets import PackTarget, Seeds

FASTA = b">chr1 a test sequence\nACGTACGTACGTTACGGGG\nACGT\n>p2\nMKV*\n"
FASTQ = b"@r1 x\nACGTN\n+\nIIII!\n@r2\nAC\n+r2\n#~\n"
VCF = (
    b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    b"chr1\t11\trs1\tG\tA\t50\tPASS\tCLNSIG=Pathogenic;GENEINFO=KIT:3815\nchr1\t12\t.\tT\tC,TG\t.\t.\tDP=3\n"
)
BED = b"track name=x\nchr1\t2\t8\texon\t0\t-\nchr1\t0\t4\n"
GTF = (
    b'#!x\nchr1\thavana\texon\t3\t9\t.\t+\t.\tgene_id "G1"; transcript_id "T;1";\nchr1\t.\tgene\t1\t12\t.\t-\t.\tID=g1;Name=abc\n'
)
GENBANK = b"""LOCUS       TEST                      18 bp    DNA     linear   BCT 01-JAN-2020
DEFINITION  test.
ACCESSION   TEST
VERSION     TEST.1
KEYWORDS    .
SOURCE      Test organism
  ORGANISM  Test organism
            Bacteria; Test.
FEATURES             Location/Qualifiers
     source          1..18
     CDS             3..14
                     /protein_id="P1"
                     /gene="g"
                     /codon_start=1
                     /transl_table=11
                     /translation="MGQ"
     CDS             complement(join(1..6,10..15))
                     /codon_start=2
                     /transl_except=(pos:1..3,aa:Sec)
ORIGIN
        1 ccatgggtca ataagggg
//
"""
EMBL = b"""ID   TEST; SV 1; linear; DNA; ; BCT; 18 BP.
XX
AC   TEST;
XX
DE   test.
XX
OS   Test organism
OC   Bacteria; Test.
XX
FH   Key             Location/Qualifiers
FT   CDS             3..14
FT                   /protein_id="P1"
FT                   /transl_table=11
FT                   /translation="MGQ"
XX
SQ   Sequence 18 BP; 6 A; 3 C; 7 G; 2 T; 0 other;
     ccatgggtca ataagggg                                                      18
//
"""
CLASSES = b"id,region,start,end,strand\n0,chr1,2,9,+\n1,chr1,0,5,-\n"
GENOME = b">chr1 test\nACGTACGTAC\nGTTACGGGGA\nCGT\n"


def zipped(*contents: bytes) -> Seeds:
    """The contents as they are, and the first of them gzipped: readers look at the bytes, not at the name."""
    return lambda _: [*contents, gzip.compress(contents[0], mtime=0)]


def _genome(_: Path) -> Mapping[str, bytes]:
    return {"../genome.fa": GENOME}


def _reference(_: Path) -> Mapping[str, bytes]:
    return {
        "../genome.fa": GENOME,
        "../genome.fa.fai": b"chr1\t23\t11\t10\t11\n",
        "x.vcf": VCF,
        "y.bed": BED,
        "positive.csv": CLASSES,
    }


WITH_GENOME = {"reference": "{folder}/genome.fa"}
BIOLOGY = {
    "biology_fasta": PackTarget("biology", "x.fasta", zipped(FASTA)),
    "biology_fastq": PackTarget("biology", "x.fastq", zipped(FASTQ)),
    "biology_vcf": PackTarget("biology", "x.vcf", zipped(VCF)),
    "biology_bed": PackTarget("biology", "x.bed", zipped(BED)),
    "biology_gtf": PackTarget("biology", "x.gtf", zipped(GTF)),
    "biology_genbank": PackTarget("biology", "x.gb", zipped(GENBANK), needs=("Bio",)),
    "biology_embl": PackTarget("biology", "x.embl", zipped(EMBL), needs=("Bio",)),
    "biology_classes": PackTarget("biology", "positive.csv", zipped(CLASSES), files=_genome, options=WITH_GENOME),
    "biology_reference": PackTarget("biology", "", lambda _: (), files=_reference, options=WITH_GENOME),
}

SDF = b"""ethanol
  test

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    2.0000    0.0000    0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  2  3  1  0
M  END
>  <exp>  (1)
-0.31

>  <note>
two
lines

$$$$
"""
V3000 = b"""
  test

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 2 1 0 0 0
M  V30 BEGIN ATOM
M  V30 1 C 0 0 0 0
M  V30 2 O 1 0 0 0 CHG=-1
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 1 2
M  V30 END BOND
M  V30 END CTAB
M  END
$$$$
"""
CIF = b"""data_NaCl
_cell_length_a 5.64(1)
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_chemical_formula_sum 'Na4 Cl4'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
Cl1 0.5 0.5 0.5
"""


def _rxn(_: Path) -> list[bytes]:
    from rdkit.Chem import rdChemReactions

    block = rdChemReactions.ReactionToRxnBlock(
        rdChemReactions.ReactionFromSmarts("CC(=O)O.CCN>>CCNC(C)=O", useSmiles=True)
    ).encode()
    return [block, b"$RDFILE 1\n$DATM x\n$RFMT\n" + block + b"$DTYPE a\n$DATUM 1\n" + block, gzip.compress(block, mtime=0)]


SMILES = b"SMILES name\n# comment\nCCO ethanol\nc1ccccc1C(=O)[O-].[Na+] salt\nC[C@H](N)C(=O)O\n"
TABLE = b'id,smiles,exp,p_np\n1,CCO,-0.3,1\n2,c1ccccc1,0.5,0\n3,"C[C@H](N)C(=O)O",,\n'
REACTIONS = b"id\treaction_smiles\tconditions\n1\tCC(=O)O.CCN>[Na+].[OH-]>CCNC(C)=O\twater, NaOH\n2\tCCBr.[OH-]>>CCO\t\n"
SCREEN = b"keys: {made up: [AAAAAAAAAAAAAA-BBBBBBBBBB-N]}\nalerts: {acid: 'C(=O)Cl'}\n"


def _site_files(_: Path) -> Mapping[str, bytes]:
    import json

    from factory.domains.chemistry.reasonable import build

    seen, _bad = build(["CCO", "c1ccccc1", "CC(=O)Nc1ccccc1"])
    return {"../screen.yaml": SCREEN, "../seen.json": json.dumps(seen.to_json()).encode(), "x.csv": b"smiles,exp\nCCO,1\n"}


RDKIT = ("rdkit",)
CHEMISTRY = {
    "chemistry_sdf": PackTarget("chemistry", "x.sdf", zipped(SDF, SDF * 2, V3000), needs=RDKIT),
    "chemistry_smi": PackTarget("chemistry", "x.smi", zipped(SMILES), needs=RDKIT),
    "chemistry_rsmi": PackTarget("chemistry", "x.rsmi", zipped(b"CC(=O)O.CCN>>CCNC(C)=O amide\nCCBr.[OH-:3]>O>CCO\n"), needs=RDKIT),
    "chemistry_rxn": PackTarget("chemistry", "x.rdf", _rxn, needs=RDKIT),
    "chemistry_cif": PackTarget("chemistry", "x.cif", zipped(CIF), needs=RDKIT),
    "chemistry_csv": PackTarget("chemistry", "x.csv", zipped(TABLE), needs=RDKIT, options={"derive": ["formula", "scaffold", "rings"]}),
    "chemistry_tsv": PackTarget("chemistry", "x.tsv", zipped(REACTIONS), needs=RDKIT, options={"reactions": ["forward", "retro", "conditions"]}),
    "chemistry_site": PackTarget("chemistry", "", lambda _: (), files=_site_files, needs=RDKIT,
                                 options={"screening": "{folder}/screen.yaml", "reasonable": "{folder}/seen.json"}),
}  # fmt: skip
TARGETS: dict[str, PackTarget] = BIOLOGY | CHEMISTRY
