"A bundle is scored like the models it was made from: base against tuned against bundle, by name, by folder, and without its run."
import shutil
from pathlib import Path
import pytest

rows = [dict(phrase='We won the match!', tone='proud'), dict(phrase='He shouted and slammed the door.', tone='angry'), dict(phrase='I cried all night.', tone='sad')]*2

@pytest.mark.slow
def test_bundle(nb):
    "Its own loss, classes and answers, near those of the run; the base beside both; worst rows first"
    nb('%finetune --max_steps 30 --eval 16 --samples 0 -n tone -o ft')
    onnx = nb('%optimize $ft --precision int8 -o onnx')
    e = nb('%evaluate $onnx --n_answers 8')
    assert list(e.table) == ['before', 'tuned', 'bundle', 'change', 'low', 'high'] and e.name == 'onnx' and 'forgetting' in e.tuned
    assert e.scores['accuracy'] > .9 > e.before['accuracy'] and 0 < abs(e.scores['loss']-e.tuned['loss']) < .05 and abs(e.scores['forgetting']-e.tuned['forgetting']) < .05
    assert e.rows.loss.is_monotonic_decreasing and len(e.rows) == 16 and {'label', 'label_tuned', 'label_before', 'answer', 'answer_tuned'} <= {*e.rows}
    answered = e.rows.dropna(subset='answer')
    assert len(answered) == 8 and (answered.answer == answered.answer_tuned).mean() > .7 and answered.answer.iloc[0] == onnx.generate(answered.prompt.iloc[0])
    run = nb('%evaluate tone --n_answers 0')
    assert run.before['loss'] == e.before['loss'] and abs(run.scores['loss'] - e.tuned['loss']) < 1e-9 and run.scores['forgetting'] == e.tuned['forgetting']
    for line in '%compare tone $onnx --n_answers 3', '%compare tone runs/tone/onnx --n_answers 3', '%compare $onnx --n_answers 3':
        c = nb(line)
        assert list(c.scores.index) == ['base', 'tone', 'onnx'] and list(c.rows) == ['prompt', 'expected', 'base', 'tone', 'onnx'] and len(c.rows) == 3, line
        assert abs(c.scores.accuracy['onnx'] - e.scores['accuracy']) < 1e-9 and 'onnx' in {*c.differences.name} and list(c.intervals) == list(c.scores.index)
    rating = nb('%compare tone $onnx --rate --n 6')
    assert rating.names == ['tone', 'onnx'] and rating.path == Path('runs/tone/ratings.jsonl').absolute()

    shutil.copytree('runs/tone/onnx', 'home')
    shutil.rmtree('runs')
    nb['rows'] = rows
    alone = nb('%evaluate home $rows --metrics accuracy')
    assert alone.before == {} and alone.name == 'home' and alone.rows.sort_index().prompt[0].startswith('<|begin_of_text|>') and 0 <= alone.scores['accuracy'] <= 1 and 'forgetting' not in alone.scores
    assert list(nb('%compare home home --data $rows --n_answers 2').scores.index) == ['home', 'home (2)']
    for line,words in ('%evaluate home', 'give the rows'), ('%evaluate home $rows --adapter tone', 'no adapter'), ('%evaluate home $rows --forgetting $texts', 'name a run'), ('%compare home --rate', 'name another'), ('%compare home', 'give the rows'):
        nb['texts'] = ['a text']
        assert words in nb.refuses(line), line
