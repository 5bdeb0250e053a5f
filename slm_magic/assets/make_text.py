"""Makes the text that the bundled model is pre-trained on, and the tone data it is fine-tuned on.

    python make_text.py            # writes tone.jsonl beside this file and reports on the text

Everything is drawn from `lexicon.yaml` by a seeded generator, so it is the same on each machine. The text is a small world:
people to whom things happen and who feel and speak accordingly, their talks, facts, sums and instructions. A text never says
which tone a phrase has; that feelings, sayings and events go together can only be learned from their company.
No row of the tone data occurs in the text: rows are made first, and a text that would hold one is drawn again.
"""
import json, re
from pathlib import Path
from random import Random
import yaml

here = Path(__file__).parent

def split(o):
    "The lexicon with each `a/b/c` as a list."
    if isinstance(o, dict): return {k: split(v) for k,v in o.items()}
    return o.split('/') if isinstance(o, str) and '/' in o else o

world = split(yaml.safe_load((here/'lexicon.yaml').read_text(encoding='utf-8')))
tones,numbers = world['tones'],world['numbers']

def cap(s): return s[0].upper() + s[1:]
def fill(rng, text):
    "`text` with each {word} replaced by one of its kind."
    kinds = world | dict(number=numbers[1:12], hour=numbers[:12])
    return cap(re.sub(r'\{(\w+)\}', lambda m: rng.choice(kinds[m[1]]), text))
def neutral(rng): return fill(rng, rng.choice(world['neutral']))
def person(rng):
    she = rng.choice(['she', 'he'])
    return rng.choice(world['names'][she]), she

# The tone data: a phrase of 3 to 40 words in the first person, with one or two signs of its tone among neutral sentences.

def phrase(rng, tone):
    t = tones[tone]
    feeling,saying,event = (rng.choice(t[k]) for k in ('feelings', 'sayings', 'events'))
    start = rng.choice(['I feel', 'Right now I am', 'Today I am', 'Since the morning I have been', 'I have to say that I am', 'To be honest, I am'])
    when = rng.choice(['Yesterday', 'Last night', 'This morning', 'Last week', 'On ' + rng.choice(world['day'])])
    signs = [saying, f'{start} {feeling}.', f'{when} I {event}.', f'{start} {feeling} because I {event}.', f'{saying} {when} I {event}.', f'{saying} {start} {feeling}.']
    sign = rng.choices(signs, [4, 3, 3, 1, 1, 1])[0]
    parts = [sign, *(neutral(rng) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]) or sign == saying))] # a bare saying is part of the text
    rng.shuffle(parts)
    return ' '.join(parts)

def tone_rows(n=840, seed=1):
    "`n` rows {'phrase', 'tone'}, as many of each tone, none twice."
    rng,rows,seen = Random(seed),[],set()
    names = list(tones)
    while len(rows) < n:
        tone = names[len(rows) % len(names)]
        text = phrase(rng, tone)
        if text in seen or not 3 <= len(text.split()) <= 40: continue
        seen.add(text)
        rows.append(dict(phrase=text, tone=tone))
    rng.shuffle(rows)
    return rows

# The text. A document is a string, or a list of (question, answer) turns of a chat.

def mine(she, text):
    "First-person idioms told about someone else"
    his = dict(she='her', he='his')[she]
    return text.replace('my ', f'{his} ').replace('your ', 'their ')

def story(rng):
    "What happened to someone, how it felt, and what was said."
    t = tones[rng.choice(list(tones))]
    name,she = person(rng)
    feel = lambda: mine(she, rng.choice(t['feelings']))
    event = lambda: rng.choice(t['events'])
    say = lambda: '"' + rng.choice(t['sayings']) + '"'
    lines = [f'{name} {event()}.', f'{cap(she)} was {feel()}.', f'{cap(she)} felt {feel()} and {feel()}.', f'{say()} {she} said.', f'{say()} said {name}. {say()}',
             f'{name} was {feel()} because {she} {event()}.', f'All day {she} was {feel()}.', f'It was the day when {she} {event()}.', f'{cap(she)} wrote: {say()}']
    rng.shuffle(lines)
    lines = lines[:rng.randint(3, 6)]
    for _ in range(rng.choice([0, 1, 1, 2])): lines.insert(rng.randint(0, len(lines)), neutral(rng))
    return ' '.join(lines)

def diary(rng):
    "The same in the first person, as in a letter."
    t = tones[rng.choice(list(tones))]
    parts = [rng.choice([f"I am so {rng.choice(t['feelings'])}.", f"I was {rng.choice(t['feelings'])} and {rng.choice(t['feelings'])}."]), rng.choice(t['sayings']), f"Then I {rng.choice(t['events'])}.", rng.choice(t['sayings']), f"I {rng.choice(t['events'])}."]
    rng.shuffle(parts)
    for _ in range(rng.choice([0, 1, 2])): parts.insert(rng.randint(0, len(parts)), neutral(rng))
    return f"Dear {rng.choice(rng.choice(list(world['names'].values())))}, " + ' '.join(parts)

def dialogue(rng):
    "Two people, one of whom has something on the heart."
    t = tones[rng.choice(list(tones))]
    (a,_),(b,she) = person(rng),person(rng)
    return f'''{a}: How are you, {b}?
{b}: I am {rng.choice(t['feelings'])}. {rng.choice(t['sayings'])}
{a}: What happened?
{b}: I {rng.choice(t['events'])}. {rng.choice(t['sayings'])}
{a}: {rng.choice(['I see.', 'Tell me more.', 'I understand.'])} You must be {mine('he', rng.choice(t['feelings'])).replace('his ', 'your ')}.
{b}: Yes, I am {rng.choice(t['feelings'])}.'''

def asked(rng):
    "Questions about a story that was just told."
    t = tones[rng.choice(list(tones))]
    name,she = person(rng)
    event,feeling,saying = rng.choice(t['events']), mine(she, rng.choice(t['feelings'])), rng.choice(t['sayings'])
    return rng.choice([[(f'{name} {event}. How does {name} feel?', f'{name} is {feeling}.')], [(f'{name} says: "{saying}" How does {name} feel?', f'{cap(she)} is {feeling}.')],
                       [(f'Why is {name} {feeling}?', f'Because {she} {event}.')], [(f'{name} is {feeling}. What does {she} say?', saying)],
                       [(f'What is another way to say that someone is {feeling}?', f"That someone is {mine(she, rng.choice(t['feelings']))}.")]])

def described(rng): return ' '.join(neutral(rng) for _ in range(rng.randint(2, 6)))

def fact(rng):
    "A question of knowledge and its answer."
    pick = lambda k: rng.choice(list(world[k].items()))
    (a,p),(s,sound),(j,made),(x,y) = pick('parts'),pick('sounds'),pick('makes'),pick('opposites')
    i,k = rng.randint(1, 10),rng.randint(1, 10)
    day = rng.randrange(7)
    days = world['day']
    return [rng.choice([(f'What does a {a} have?', f'A {a} has {p}.'), (f'Which animal {sound}?', f'A {s} {sound}.'), (f'What does a {s} do?', f'A {s} {sound}.'),
        (f'What does a {j} make?', f'A {j} makes {made}.'), (f'What is the opposite of {x}?', f'The opposite of {x} is {y}.'), (f'What is {numbers[i-1]} plus {numbers[k-1]}?', f'It is {numbers[i+k-1]}.'),
        (f'Which day comes after {days[day]}?', f'{days[(day+1)%7]} comes after {days[day]}.'), (f'What comes after {numbers[i-1]}?', cap(numbers[i]) + '.')])]

def told(rng):
    "Facts as plain sentences."
    return ' '.join(fact(rng)[0][1] for _ in range(rng.randint(2, 5)))

def instruction(rng):
    "Something to do with a word or a sentence."
    words = rng.sample([*world['thing'], *world['animal'], *world['job']], 3)
    sentence = neutral(rng)
    return [rng.choice([(f'Write the word {words[0]} two times.', f'{words[0]} {words[0]}'), (f"Which of these comes first: {', '.join(words)}?", words[0]), (f"Which of these comes last: {', '.join(words)}?", words[2]),
        (f'Repeat: {sentence}', sentence), (f'Write a sentence about a {words[0]}.', f'The {rng.choice(world["color"])} {words[0]} is {rng.choice(world["place"])}.'), (f'What is the last word of "{sentence}"?', sentence.rstrip('.').split()[-1])])]

def one_word(rng):
    "Answers of one word, the common ones more often, so that each is also known without a space before it."
    def pick():
        tone = rng.choice(list(tones))
        return rng.choice([tone, rng.choice(tones[tone]['feelings']), rng.choice(world['thing'])])
    a,b,c = pick(),pick(),pick()
    return [rng.choice([(f'Repeat the word: {a}', a), (f'Say only the second: {a}, {b}, {c}', b), (f'Write without capitals: {cap(a)}', a)])]

makers = dict(story=5, diary=3, dialogue=2, asked=4, described=2, fact=2, told=1, instruction=2, one_word=2)

def documents(n=56_000, seed=2, avoid=()):
    "`n` documents, none of which holds a phrase of `avoid`."
    rng = Random(seed)
    kinds = [globals()[k] for k in makers]
    plain = lambda d: d if isinstance(d, str) else '\n'.join(s for turn in d for s in turn)
    avoid = re.compile('|'.join(map(re.escape, avoid))) if avoid else None
    res = []
    while len(res) < n:
        doc = rng.choices(kinds, list(makers.values()))[0](rng)
        if not avoid or not avoid.search(plain(doc)): res.append(doc)
    return res

if __name__ == '__main__':
    rows = tone_rows()
    (here/'tone.jsonl').write_text(''.join(json.dumps(o) + '\n' for o in rows), encoding='utf-8')
    docs = documents(2_000)
    lengths = [len(o['phrase'].split()) for o in rows]
    print(f'{len(rows)} rows of {min(lengths)} to {max(lengths)} words; of 2,000 documents the first are:')
    for o in docs[:12]: print('-', o)
