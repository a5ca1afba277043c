"""The table of idioms that `test_prose.py` looks for, each with a right wording beside it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Idiom:
    """One way of writing that stops a reader.

    Attributes:
        name: What it is called when it is found.
        pattern: It finds the idiom in a passage whose lines are joined by blanks.
        instead: The right wording.
        bad: A planted sentence that the pattern finds.
        good: A sentence close to it that the pattern lets pass.
    """

    name: str
    pattern: str
    instead: str
    bad: str
    good: str


UNIT = (
    r"(?:arm|batch|block|call|column|device|draw|estimator|file|forward|group|head|hour|job|label"
    r"|layer|line|minute|model|part|pass|position|process|program|prompt|query|question|response"
    r"|rollout|round|route|row|run|sample|second|seed|sequence|stage|step|token|update|window)"
)
COUNTED = (
    r"(?:bytes|columns|draws|labels|lines|passes|points|queries|questions|responses|rollouts|rows"
    r"|samples|seconds|steps|times|tokens|updates|values|votes|windows|words|once|twice"
    r"|(?:two|three|four|\d+) (?:[\w-]+ )?[\w-]+|(?:[Aa]n?|[Oo]ne)(?: (?:equal|few|further|list"
    r"|new|own|random|separate|single))? (?!as|by|for|from|in|is|of|on|or|than|that|to|with)[\w-]+)"
)
START = r"(?:^|(?<=[.;:!] ))"  # of a sentence, or of what follows a semicolon or colon
END = r"(?=[.,;:)]|$)"
NO_QUESTION = r"(?![^.]*\?)"

IDIOMS = (
    Idiom(
        "`a` for per",
        rf"\b{COUNTED} an? {UNIT}\b(?! (?:of|is|are|that|which|has)\b)",
        "per question, for each step",
        "It draws 16 samples a question.",
        "It draws 16 samples per question, and a part of a row may fail.",
    ),
    Idiom(
        "a sentence that begins with a free relative",
        rf"{START}What {NO_QUESTION}",
        "the thing by its name: The files that training writes",
        "What training leaves in its folder.",
        "The files that training writes. What is a pivot?",
    ),
    Idiom(
        "a free relative after a preposition",
        r"\b(?:after|and|at|before|behind|beside|by|for|from|in|into|less|like|minus|of|on|or|out"
        r"|over|plus|than|to|with|without) what(?:ever)? ",
        "the thing by its name: minus the loss that a wrong vote causes",
        "The gain of a vote, less what a wrong vote unteaches.",
        "The gain of a vote, minus the loss that a wrong vote causes. It says what to do.",
    ),
    Idiom(
        "what is there",
        r"\bwhat(?:ever)? (?:is|was|lies) (?:there|left|known|kept)\b|\bwhat there is\b"
        r"|\bthat which\b",
        "the thing by its name: the files that exist",
        "It reads what is there.",
        "It reads the files that exist.",
    ),
    Idiom(
        "a fragment that begins with a relative pronoun",
        rf"{START}(?:Whose|Whom|Which|Who) {NO_QUESTION}",
        "The model whose limits they are checked against",
        "Whose limits they are checked against.",
        "The model whose limits they are checked against. Which one is it?",
    ),
    Idiom(
        "of which",
        r"\bof (?:which|whom)\b",
        "two sentences",
        "There are ten, of which two fail.",
        "There are ten. Two of them fail.",
    ),
    Idiom(
        "those that",
        r"\b[Tt]hose (?:that|which|who|of|in|on|with|from)\b|\b(?:one|ones) that\b",
        "the noun again: the questions that",
        "It keeps those that have a vote.",
        "It keeps the questions that have a vote.",
    ),
    Idiom(
        "where there is one",
        r"\b(?:where|if|as far as) there (?:is|are|was|were) (?:one|none|any|some)\b",
        "if it exists, or the thing by its name",
        "The message names the row where there is one.",
        "The message names the row if it is known.",
    ),
    Idiom(
        "a negative object in place of a negated verb",
        r"\b\w+s (?:nobody|no one|no other|nowhere)\b|\b[Nn]obody\b",
        "does not bind anyone",
        "A limit that binds nobody.",
        "The limit does not apply to any question.",
    ),
    Idiom(
        "has not, without a verb",
        rf"\b(?:has|have|had|needs?) not{END}",
        "does not have it",
        "It names a head that the model has not.",
        "It names a head that the model does not have. It has not finished.",
    ),
    Idiom(
        "an inversion",
        r"[,;.] [Nn]or\b|[,;] so (?:is|are|was|were|does|do|did|has|have|may|can|must|will)\b|"
        rf"{START}(?:Nowhere|Not until|Only then|Only where) (?:is|are|was|does|do|has|may)\b",
        "subject before verb, with `not ... and not`, `too`",
        "It is not saved, nor is it read.",
        "It is not saved and not read. The table is saved too. It is neither a row nor a step.",
    ),
    Idiom(
        "a dropped subject",
        rf"{START}(?:Never|Nowhere) \w+|(?<=[.;:!] )(?:Has|Is|Are|Was|Were|Can|Costs|Needs|Takes"
        r"|Gives|Makes|Holds|Keeps|Says|Reads|Stays|Goes|Comes|Belongs|Stands|Serves"
        r"|Lies|Tells|Does|Must|May|Will|Would|Shows|Asks|Leaves|Falls|Fails|Works|Applies"
        rf"|Changes|Depends|Writes|Differs) {NO_QUESTION}",
        "the subject: The stage is never forced",
        "It marks the stage. Never forced: the user decides.",
        "It marks the stage. The stage is never forced, because the user decides.",
    ),
    Idiom(
        "a sentence that begins with where in place of if",
        rf"{START}Where {NO_QUESTION}",
        "If the mask is missing, ...",
        "Where the mask is missing, all tokens are real.",
        "If the mask is missing, all tokens are real. It says where the file is.",
    ),
    Idiom(
        "a possessive without its noun",
        r"\b(?:an?|the|its|this|that|another|each|every|one)(?: [\w-]+)? \w+['’]s" + END,
        "the noun again: as many as in one step",
        "Rollouts in a forward pass; by default a step's.",
        "The answer is the model's own answer.",
    ),
    Idiom(
        "but for",
        r"(?<!,) but for (?:its|the|an?|one)\b",
        "except, without",
        "It reads the response but for its last token.",
        "It reads the response without its last token, but for the prompt it stops.",
    ),
    Idiom(
        "an old adverb",
        r"\b(?:thereof|therein|thereby|therefrom|whereof|wherein|whereby|whence|thence|hitherto"
        r"|hence|henceforth|herein|lest|albeit|forthwith|thereupon)\b",
        "so, in it, by it, until now",
        "It reads the table and the columns thereof.",
        "It reads the table and its columns. There it stops.",
    ),
    Idiom(
        "a verb in a sense of its own",
        r"\b(?:[Uu]nteach(?:es)?|hangs? on\b(?! to)|(?:is|are|was|were) told\b"
        r"|wants? (?:a|an|no|at least|\d+)\b)",
        "depends on, is reported, needs",
        "The ratio hangs on the target.",
        "The ratio depends on the target.",
    ),
    Idiom(
        "meanwhile for during the call",
        rf"\bmeanwhile{END}",
        "during the call",
        "The model; put in evaluation mode meanwhile.",
        "The model. It is in evaluation mode during the call.",
    ),
)
