"What a curve says: every finding over several seeds, and as many curves that only look like it."
import json, math, random
import pytest
from slm_magic import Recipe, Run, finetune
from slm_magic.card import run_card
from slm_magic.diagnosis import FINDINGS, Trace, diagnose, recipe_cell
from slm_magic.frames import Moment, live_html, still, text_summary
from slm_magic.methods import METHODS
from slm_magic.plan import make_plan
from slm_magic.run import create_run, draw_run, set_status, write_lines
from slm_magic.verbs import meant, verbs

def exp(floor, speed=15, start=3.5): return lambda x: floor + (start-floor)*math.exp(-speed*x)

def curves(train, held=None, seed=0, noise=.1, n=100, evals=6, warm=.05, rate=1e-3):
    "Lines of metrics.jsonl; the curves are functions of the learning rates added up, as a share"
    rng,rates = random.Random(seed),[rate*min(1, i/n/warm)*.5*(1+math.cos(math.pi*i/n)) for i in range(1, n+1)]
    done,rows = 0,[]
    for i,r in enumerate(rates, 1):
        rows.append(dict(step=i, epoch=3*i/n, loss=max(1e-4, train(done/sum(rates))*(1+noise*rng.gauss(0, 1))), learning_rate=r))
        done += r
        if held and i % max(1, n//evals) == 0: rows.append(dict(step=i, epoch=3*i/n, eval_loss=held(done/sum(rates))))
    return rows

def names(rows, status='done', recipe=None, **more): return diagnose(Trace(rows, recipe or Recipe.make(max_steps=100, learning_rate=1e-3), status, **more)).names

def bump(at, height, width=.06): return lambda x: height*math.exp(-((x-at)/width)**2)

ill = {
    'overfitting': (exp(.01), lambda x: 1 + 2*math.exp(-15*x) + .6*x),
    'divergence': (lambda x: 3.5-6*x if x < .3 else 1.7+1.5*(x-.3), lambda x: 3.5-6*x if x < .3 else 1.7+1.5*(x-.3)),
    'too-high learning rate': (lambda x: exp(1.2)(x) + bump(.15, 6)(x), exp(1.3, 5)),
    'too-low learning rate': (lambda x: 3.5-.1*x, lambda x: 3.5-.1*x),
    'too-short training': (exp(.2, 2), exp(.25, 2)),
    'plateau': (lambda x: 3.5, lambda x: 3.5)}

@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('noise', [0, .03, .07])
@pytest.mark.parametrize('name', ill)
def test_each_finding(name, noise, seed):
    "It is seen whatever the noise; by the training loss alone too, but for what only held-out rows can show"
    train,held = ill[name]
    assert names(curves(train, held, seed, noise)) == [name]
    if name not in ('overfitting', 'too-low learning rate'): assert names(curves(train, None, seed, noise)) == [name]

@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('noise', [.02, .1, .3])
@pytest.mark.parametrize('floor', [.005, .1, .5, 1.1, 2.2])
def test_healthy(floor, noise, seed):
    "Curves that fall to their floor and stay there are left alone, with and without held-out rows, long and short"
    for n in 20, 100, 400:
        assert names(curves(exp(floor, 20), exp(1.1*floor, 20), seed, noise, n)) == [], n
        assert names(curves(exp(floor, 20), None, seed, noise, n)) == [], n

near = {
    'a rise that is nothing against the start': (exp(.001, 20), lambda x: .004 + 3*math.exp(-30*x) + .02*x),
    'a rise of the last evaluation only': (exp(.01, 20), lambda x: exp(1., 20)(x) + (.3 if x > .99 else 0)),
    'held-out rows that are harder': (exp(.1, 20), exp(.9, 20)),
    'a hump smaller than the start': (lambda x: exp(.3, 20)(x) + bump(.5, .6)(x), exp(.35, 20)),
    'a last per cent': (exp(.5, 20), lambda x: exp(.6, 20)(x) - .01*x),
    'one fall per epoch': (lambda x: [1.4, 1., .8][min(2, int(3*x))] + 2*math.exp(-30*x), exp(1.1, 20)),
    'a text whose words stay open': (exp(2.4, 20), exp(2.5, 20))}

@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('name', near)
def test_near_misses(name, seed): assert names(curves(*near[name], seed, .05)) == []

def test_too_early_to_tell():
    "Before the end only what can be known is said; a stopped run is not called too short; a handful of steps says nothing"
    for name,(train,held) in ill.items():
        early = name in ('overfitting', 'divergence', 'too-high learning rate')
        for status in 'running', 'stopped': assert names(curves(train, held), status) == [name]*early
        assert names(curves(train, n=4)) == names([]) == names([], 'failed') == []

def test_not_finite():
    "A loss that is none, unless it is the scale of fp16 being found"
    logged = curves(exp(.3), n=40)
    gone = [o | dict(loss=None) if o['step'] > 30 else o for o in logged]
    assert names(gone) == ['divergence'] == names([], 'failed', error='run: loss or gradients were not finite in 5 steps') and names(logged, 'failed', error='disk full') == []
    assert names([o | dict(loss=None) if o['step'] in (1, 2) else o for o in logged]) == []
    assert '10 of 40' in diagnose(Trace(gone, Recipe.make(learning_rate=1e-3)))[0].seen

def test_one_reading_of_a_curve():
    "A run that diverged is not called a plateau, or too short, besides"
    flat_after = lambda x: 3.4-20*x if x < .1 else min(9, 1.4+60*(x-.1))
    assert names(curves(flat_after, flat_after)) in (['divergence'], ['too-high learning rate'])

def test_classes():
    "One class of several, and only where enough rows of the others were held out; a plateau is measured by the entropy of the classes"
    rows = [dict(step=9, eval_loss=.2, classes_right=1, rows_right=9)]
    assert names(rows, classes=dict(a=[90, 9], b=[10, 3])) == ['one class only']
    for n,right,classes in (1, 9, dict(a=[90, 9], b=[10, 2])), (2, 10, dict(a=[90, 9], b=[10, 3])), (0, 0, dict(a=[90, 9], b=[10, 3])), (1, 9, dict(a=[90, 9])), (1, 4, dict(a=[90, 9], b=[10, 3])):
        assert names([rows[0] | dict(classes_right=n, rows_right=right)], classes=classes) == []
    assert names(rows, 'running', classes=dict(a=[90, 9], b=[10, 3])) == []
    six = dict(classes=dict.fromkeys('abcdef', [20, 2]), per_row=3.)
    assert names(curves(exp(.59, 20), exp(.6, 20)), **six) == ['plateau'] and names(curves(exp(.2, 20), exp(.21, 20)), **six) == []

def test_answers_that_never_end():
    "All of the newest samples, and at least two"
    def said(*cut): return [dict(step=9, **dict(cut=True) if o else {}) for o in cut]
    rows = curves(exp(.1, 20), exp(.11, 20))
    assert names(rows, samples=said(1, 1)) == ['never stops'] and [names(rows, samples=o) for o in (said(1), said(1, 0), said(1, 1) + [dict(step=10)])] == [[], [], []]
    for keys,change in (dict(loss='<f>'), 'loss'), (dict(train_on='all'), 'train_on: completion'), ({}, 'num_train_epochs: 9'):
        cell = diagnose(Trace(rows, Recipe.make(max_steps=100, learning_rate=1e-3, **keys), facts=dict(chosen=['max_steps']), samples=said(1, 1)))[0].cell
        assert ('loss' not in cell) if change == 'loss' else change in cell

@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', ill)
def test_cells_are_understood(method, name):
    "What is offered is a recipe of this method, and differs from the run's"
    recipe = Recipe.make(method=method, max_steps=100, learning_rate=1e-3, data='a file: of "mine".csv', template='{q}\n{a}', eval=12, metrics=['accuracy', '<own>'])
    for chosen in ([], ['max_steps', 'learning_rate']):
        cell = diagnose(Trace(curves(*ill[name]), recipe, facts=dict(chosen=chosen, usual_rate=2e-4)))[0].cell
        line,_,body = cell.partition('\n')
        verb,values = meant(verbs['finetune'], line.removeprefix('%%finetune'), body, dict(own=len))
        new = Recipe.make(line=values)
        assert new.data == recipe.data and new.template == recipe.template and new.eval == 12 and new.metrics == ['accuracy', len] and new.method == method
        old = recipe.to_dict() | ({'max_steps': -1, 'learning_rate': None} if chosen else {})
        assert {k: v for k,v in new.to_dict().items() if k != 'metrics'} != {k: v for k,v in old.items() if k != 'metrics'}

def test_paths_and_functions_in_a_cell(tmp_path, monkeypatch):
    "Inside of the working directory paths are short; functions get their $ back"
    monkeypatch.chdir(tmp_path)
    cell = recipe_cell(Recipe.make(data=str(tmp_path/'runs'/'a'/'data.jsonl'), eval='/elsewhere/held.csv', loss='<lambda>', name='a'), dict(r=4))
    assert cell.splitlines() == ['%%finetune', 'data: runs/a/data.jsonl', 'eval: /elsewhere/held.csv', "loss: $name", 'name: a', 'r: 4']

@pytest.fixture
def overfitted(tmp_path, monkeypatch):
    "The folder of a run that was not trained here"
    monkeypatch.chdir(tmp_path)
    plan = make_plan(Recipe.make(data=[dict(q=f'q{i}', a=f'<b>{i%3}') for i in range(40)], eval=9, max_steps=100))
    run = create_run(plan.recipe, plan.data, plan.path)
    write_lines(run.path/'metrics.jsonl', curves(*ill['overfitting']) + [dict(step=100, epoch=3, eval_loss=1.7, classes_right=1, rows_right=3)])
    set_status(run, 'done')
    return run

def test_wherever_a_run_is_shown(overfitted):
    "Its folder alone is enough; page, still, text and card say the same, and what comes from data is escaped"
    run = Run.load(overfitted.path)
    assert run.diagnosis.names == ['overfitting', 'one class only'] and 'overfitting since step' in repr(run.diagnosis)
    m = Moment(run.id, rows=run.rows, status='done', findings=run.diagnosis)
    for shown in draw_run(run), live_html(m), still(m)['text/html'], text_summary(m), run_card(run), run.diagnosis._repr_html_(): assert 'overfitting since step' in shown
    for html in draw_run(run), live_html(m), still(m)['text/html'], run.diagnosis._repr_html_(): assert '<b>0' not in html and '&lt;b&gt;' in html
    assert 'early_stopping' in draw_run(run) and 'early_stopping' not in draw_run(run, picture=False) # not twice: the still above has it

def test_names_are_those_of_the_contract():
    assert {*ill} <= {*FINDINGS}

@pytest.mark.slow
@pytest.mark.parametrize('seed', [1, 2, 3])
def test_bundled_default_is_healthy(seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert finetune(seed=seed, listeners=[]).diagnosis == []
