"""The agent of positions alone: both backends are one agent, and what a stretch holds is what happened."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from examples import recurrent_ppo as ppo

SMALL = ppo.Settings(environments=6, hidden=8, stretch=40, steps=480, epochs=2, parts=3)


@pytest.fixture(params=list(ppo.AGENTS))
def agent(request) -> ppo.Player:
    torch.manual_seed(0)
    agent = ppo.AGENTS[request.param](SMALL.hidden)
    agent.begin(SMALL.environments)
    return agent


def stretches(agent: ppo.Player, count: int) -> tuple[list[ppo.Stretch], ppo.World]:
    world, returns = ppo.World(SMALL.environments, seed=3), ppo.Returns(SMALL.environments)
    torch.manual_seed(1)  # of the actions
    return [ppo.collect(agent, world, SMALL, returns, ppo.Clock()) for _ in range(count)], world


def test_both_agents_are_one():
    pair: list[Any] = [make(SMALL.hidden) for make in ppo.AGENTS.values()]
    pair[1].load_state_dict(pair[0].state_dict())
    x, new = torch.randn(9, 4, 2), torch.rand(9, 4) < 0.3
    state = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    learned = [agent(x, new, state) for agent in pair]
    torch.testing.assert_close(*learned)
    for agent, outputs in zip(pair, learned, strict=True):
        outputs.square().sum().backward()
        agent.begin(4)
        agent.state = state
        acted = torch.stack([agent.act(*step) for step in zip(x, new, strict=True)])
        torch.testing.assert_close(acted, outputs.detach())
    for mine, others in zip(*(agent.parameters() for agent in pair), strict=True):
        torch.testing.assert_close(mine.grad, others.grad)


def test_a_stretch_is_learned_from_as_it_was_acted(agent):
    pytest.importorskip("gymnasium")
    for stretch in stretches(agent, 2)[0]:  # the second one begins in the middle of episodes
        assert stretch.new.any()
        policy, values = ppo.policy_and_values(agent(stretch.observations, stretch.new, stretch.state))
        torch.testing.assert_close(values.detach(), stretch.values)
        torch.testing.assert_close(policy.log_prob(stretch.actions).detach(), stretch.likely)
        part = stretch.of(torch.tensor([4, 1]))
        values = ppo.policy_and_values(agent(part.observations, part.new, part.state))[1]
        torch.testing.assert_close(values.detach(), stretch.values[:, [4, 1]])


def test_an_episode_begins_after_the_step_that_did_nothing(agent):
    pytest.importorskip("gymnasium")
    (first, second), _ = stretches(agent, 2)
    new, real = torch.cat([first.new, second.new]), torch.cat([first.real, second.real])
    assert new[0].all()
    assert real[0].all()
    assert not real.all()
    assert torch.equal(new[1:], ~real[:-1])
    observations = torch.cat([first.observations, second.observations])
    assert observations[new].abs().max() < 0.05 / 0.2  # where episodes begin
    assert (observations[~real].abs().amax(-1) > 1).all()  # where they end


def test_the_stream_acts_with_the_weights_that_were_learned(agent):
    pytest.importorskip("gymnasium")
    optimizer = torch.optim.Adam(agent.parameters(), lr=0.01)
    (stretch,), world = stretches(agent, 1)
    before = agent.act(world.observations, world.new)
    agent.begin(SMALL.environments)
    ppo.learn(agent, optimizer, stretch, SMALL)
    after = agent.act(world.observations, world.new)
    torch.testing.assert_close(
        after, agent(world.observations[None], world.new[None] | True, stretch.state)[0].detach()
    )
    assert not torch.equal(after, before)


def test_advantages_are_sums_of_what_followed():
    """The oracle adds up discounted errors, from each step to the end of its episode."""
    torch.manual_seed(0)
    T, B = 12, 3
    values, following, rewards = torch.rand(T, B), torch.rand(B), torch.rand(T, B)
    over = torch.rand(T, B) < 0.3
    failed = over & (torch.rand(T, B) < 0.5)
    assert (over & ~failed).any()
    assert failed.any()
    found = ppo.estimate(values, following, rewards, failed, over, SMALL)
    discount, after = SMALL.discount, torch.cat([values[1:], following[None]])
    for b in range(B):
        for t in range(T):
            expected, weight = 0.0, 1.0
            for k in range(t, T):
                later = 0.0 if failed[k, b] else float(after[k, b])
                error = (1 - discount) * float(rewards[k, b]) + discount * later - float(values[k, b])
                expected += weight * error
                weight *= discount * SMALL.trace
                if over[k, b]:
                    break
            assert float(found[t, b]) == pytest.approx(expected, abs=1e-5)


def test_steps_that_did_nothing_are_not_learned_from(agent):
    pytest.importorskip("gymnasium")
    (stretch,), _ = stretches(agent, 1)
    other = stretch._replace(
        advantages=torch.where(stretch.real, stretch.advantages, torch.nan),
        actions=torch.where(stretch.real, stretch.actions, 1 - stretch.actions),
    )
    assert torch.equal(ppo.loss(agent, other, SMALL), ppo.loss(agent, stretch, SMALL))


@pytest.mark.parametrize("backend", list(ppo.AGENTS))
def test_the_command_trains_and_evaluates(backend, monkeypatch, capsys):
    pytest.importorskip("gymnasium")
    monkeypatch.setattr(sys, "argv", ["recurrent_ppo.py", "--backend", backend])
    monkeypatch.setattr(ppo, "Settings", lambda: SMALL)
    ppo.main()
    printed = capsys.readouterr().out
    assert "480 steps: mean return" in printed
    assert "learning" in printed
    assert "mean return of 100 new episodes: " in printed


def test_the_pole_falls_sooner_without_an_agent():
    pytest.importorskip("gymnasium")
    agent = ppo.StreamingAgent(4)
    with torch.no_grad():
        agent.heads.weight.zero_()
        agent.heads.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))  # always to the left
    assert 8 <= ppo.evaluate(agent, 20, seed=0) <= 11


def test_without_gymnasium_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(SystemExit, match="pip install gymnasium"):
        ppo.World(2, seed=0)
