"""Questions about short stories, in the format of bAbI (Weston et al., 2015)."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.fetching import places
from jaxnets.data.images import Tree, with_tree
from jaxnets.data.tokens import PADDING, UNKNOWN, split_words, word_vocabulary
from jaxnets.data.unpacking import BROKEN, decoded
from jaxnets.errors import InputError
from jaxnets.memory import check_fits

_HOME = "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz"
_FILE = re.compile(r"(.+)_(train|valid|test)\.txt")
_PARTS = {"train": "train", "valid": "validation", "test": "test"}


class Question(NamedTuple):
    """A question about the facts before it.

    Attributes:
        facts: sentences, the oldest first.
        text: of the question.
        answer: a word, or several with commas between them; "" where it is asked for.
        supporting: which facts the answer follows from, numbers from 0; none where the file does not say.
        story: number of the story in its file; the questions of one share facts.
        task: what kind of question it is: the beginning of its file's name.
    """

    facts: tuple[str, ...]
    text: str
    answer: str = ""
    supporting: tuple[int, ...] = ()
    story: int = 0
    task: str = ""


def read_questions(text: str, name: object, task: str = "", *, answered: bool = True) -> list[Question]:
    """Return the questions of a text in bAbI's format: ``NUMBER sentence``, ``NUMBER question<TAB>answer<TAB>facts``.

    A number that does not rise begins a new story.

    Args:
        text: the file's.
        name: of the file, for errors.
        task: what kind of questions they are.
        answered: whether questions must have answers; without, what ends with "?" is a question too.

    Raises:
        InputError: if a line has another form, or a question's story has no facts before it.
    """
    found: list[Question] = []
    facts: list[str] = []
    numbers: list[int] = []
    story, last = -1, 0
    for row, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        number, _, rest = line.strip().partition(" ")
        if not (number.isascii() and number.isdecimal() and rest.strip()):
            raise InputError(f"{name}: line {row} is no NUMBER SENTENCE: {line[:50]!r}")
        if story < 0 or int(number) <= last:
            story, facts, numbers = story + 1, [], []
        last = int(number)
        sentence, *more = (part.strip() for part in rest.split("\t"))
        if not more and (answered or not sentence.endswith("?")):
            facts.append(sentence)
            numbers.append(last)
            continue
        answer, supports, *_ = [*more, "", ""]
        if answered and not answer:
            raise InputError(f"{name}: line {row} is a question without an answer: {line[:50]!r}")
        if not facts:
            raise InputError(f"{name}: line {row} asks before a fact is told: {line[:50]!r}")
        supporting = tuple(place for place, each in enumerate(numbers) if str(each) in supports.split())
        found.append(Question(tuple(facts), sentence, answer, supporting, story, task))
    if not found:
        raise InputError(f"{name}: holds no questions, NUMBER QUESTION<TAB>ANSWER")
    return found


def story_parts(path: Path) -> dict[str, list[Question]]:
    """Return the questions of a folder or zip file of ``TASK_train.txt``, ``TASK_test.txt`` and, maybe, ``_valid``.

    Returns:
        Questions of "train", "test" and, if there are such files, "validation"; tasks in the order of their numbers.

    Raises:
        InputError: if a part is missing, or a file is broken.
    """

    def parts_of(tree: Tree) -> dict[str, list[Question]]:
        found: dict[str, list[Question]] = {}
        named = {
            match[0]: (match, read) for parts, read in tree.others.items() if (match := _FILE.fullmatch(parts[-1]))
        }
        for name in sorted(named, key=lambda name: ([int(digits) for digits in re.findall(r"\d+", name)], name)):
            match, read = named[name]
            found.setdefault(_PARTS[match[2]], []).extend(read_questions(_text(name, read), name, match[1]))
        return found

    parts = with_tree(path, parts_of)
    if missing := [part for part in ("train", "test") if part not in parts]:
        raise InputError(f"{path}: holds no files *_{' and no *_'.join(missing)}.txt of bAbI's format")
    return parts


def babi(data_dir: Path | None = None) -> dict[str, list[Question]]:
    """Return bAbI's 20 tasks in English (version 1.2), "train" and "test": 1,000 questions of each task.

    Its archive is not fetched: it is asked for where it is not found.

    Args:
        data_dir: where babi-en.zip, or the unpacked folder "en" (or tasks_1-20_v1-2), is; ``JAXNETS_DATA``, or the
            cache folder's "babi", if absent.

    Raises:
        InputError: if it is not there, or is broken.
    """
    looked = places("babi", data_dir)
    for place in looked:
        for name in ("babi-en.zip", "tasks_1-20_v1-2/en", "en"):
            if (place / name).exists():
                return story_parts(place / name)
    raise InputError(
        f"data='babi': no babi-en.zip and no folder en in {', '.join(map(str, looked))}; get {_HOME}, and put its "
        "folder en there, or a zip file of it"
    )


def last_stories(questions: Sequence[Question], share: float) -> tuple[list[Question], list[Question]]:
    """Return the questions without and with the last stories of each task, about this share of the task's questions.

    Raises:
        InputError: if a task has one story alone.
    """
    rest: list[Question] = []
    held: list[Question] = []
    for task in dict.fromkeys(question.task for question in questions):
        of_task = [question for question in questions if question.task == task]
        if of_task[0].story == of_task[-1].story:
            raise InputError(f"validation={share}: task {task} has one story, and none to hold out; use --validation 0")
        first = min(max(of_task[round(len(of_task) * (1 - share)) - 1].story + 1, 1), of_task[-1].story)
        rest += [question for question in of_task if question.story < first]
        held += [question for question in of_task if question.story >= first]
    return rest, held


def words_of(sentence: str) -> list[str]:
    """Return the lower-cased words of a sentence, without punctuation."""
    return [word for word in split_words(sentence) if any(map(str.isalnum, word))]


def story_vocabulary(questions: Sequence[Question]) -> tuple[str, ...]:
    """Return padding, unknown, and the words of facts and questions, the most frequent first."""
    sentences = Counter(sentence for question in questions for sentence in (*question.facts, question.text))
    counts: Counter[str] = Counter()
    for sentence, number in sentences.items():
        counts.update(dict.fromkeys(words_of(sentence), number))
    return word_vocabulary([]) + tuple(word for word, _ in counts.most_common())


def encode_stories(
    questions: Sequence[Question], vocabulary: Sequence[str], most_facts: int, most_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return stories as rows of words' numbers: the question, then its facts from the newest back.

    Older facts than ``most_facts`` are left out. So what a batch does not need is at the rows' ends.

    Args:
        questions: with their facts.
        vocabulary: padding, unknown and the words.
        most_facts: F.
        most_words: W, of a sentence.

    Returns:
        Tokens, int32 [N, (1 + F) * W], a sentence every W of them, and how many of those have sentences in them, [N].

    Raises:
        InputError: if a sentence has no words, or more than ``most_words``.
    """
    width = (1 + most_facts) * most_words
    remedy = "use a smaller --max-facts"
    check_fits(f"max_facts={most_facts} for each of {len(questions):,} questions", 4 * width * len(questions), remedy)
    numbers = {word: number for number, word in enumerate(vocabulary)}
    known: dict[str, list[int]] = {}

    def encoded(sentence: str) -> list[int]:
        words = words_of(sentence)
        if not 0 < len(words) <= most_words:
            remedy = "; use a larger --max-words" if words else ""
            raise InputError(f"{sentence[:50]!r} has {len(words)} words; 1 to {most_words} are taken{remedy}")
        return [numbers.get(word, UNKNOWN) for word in words]

    rows, lengths = np.full((len(questions), 1 + most_facts, most_words), PADDING, np.int32), []
    for row, question in zip(rows, questions, strict=True):
        sentences = [question.text, *question.facts[::-1][:most_facts]]
        for slot, sentence in zip(row, sentences, strict=False):
            if sentence not in known:
                known[sentence] = encoded(sentence)
            slot[: len(known[sentence])] = known[sentence]
        lengths.append(most_words * len(sentences))
    return rows.reshape(len(questions), width), np.array(lengths, np.int32)


def _text(name: str, read: Callable[[], bytes]) -> str:
    try:
        return decoded(read(), name)
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{name}: cannot be read as UTF-8 text: {error}") from error
