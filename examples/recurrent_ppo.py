"""Balance a pole whose speed is hidden: PPO with an LSTM, in one file.

    python examples/recurrent_ppo.py [--backend torch] [--seed N] [--minutes M]

The environment is CartPole-v1 without its two velocities, so that an agent has to remember. It acts in all environments
at once, one step at a time, and learns from stretches of many steps, in which episodes end and others begin. With
unspool, it acts by `us.stream`, and learns by one call with `resets`. `nn.LSTM` has no resets: with `--backend torch`,
the same loop learns step by step.

Letters: T steps of a stretch, B environments, A actions, H hidden size.
"""

import argparse
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

import unspool as us

ACTIONS, LONGEST = 2, 500
State = tuple[Tensor, Tensor]
"""What an LSTM remembers: h and c, [1, B, H] each."""


@dataclass
class Settings:
    """The numbers of PPO (Schulman et al., 2017)."""

    environments: int = 16
    hidden: int = 64
    stretch: int = 256  # steps of each environment between two updates; gradients flow back to the first of them
    steps: int = 300_000  # of all environments together
    rate: float = 3e-3  # the learning rate of the first update; it would be zero after the last
    epochs: int = 6
    parts: int = 4  # of the environments: a minibatch is whole stretches
    discount: float = 0.99
    trace: float = 0.95  # lambda of generalised advantage estimation (Schulman et al., 2016)
    clip: float = 0.2
    weight: float = 0.5  # of the error of values in the loss
    norm: float = 0.5  # that gradients are clipped to


class Agent(nn.Module):
    """An encoder of observations, an LSTM, and heads: scores of the actions, and the value."""

    def __init__(self, memory: nn.Module, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, hidden), nn.Tanh())
        self.memory = memory
        self.heads = nn.Linear(hidden, ACTIONS + 1)


class StreamingAgent(Agent):
    """Acts by a stream, which reads the weights as they are, and learns with resets."""

    def __init__(self, hidden: int) -> None:
        super().__init__(us.LSTM(hidden, hidden), hidden)

    def begin(self, environments: int) -> None:
        """Act in this many environments from now on, and remember nothing."""
        self.stream = us.stream([self.encoder, self.memory, self.heads], batch_size=environments)

    @property
    def state(self) -> State:
        """What the agent remembers."""
        return self.stream.state

    @state.setter
    def state(self, state: State) -> None:
        self.stream.state = state

    def act(self, observations: Tensor, new: Tensor) -> Tensor:
        """Take a step: observations [B, 2], whether an episode begins with it [B] -> what the heads say [B, A + 1]."""
        self.stream.reset(rows=new)
        return self.stream.step(observations)

    def forward(self, observations: Tensor, new: Tensor, state: State) -> Tensor:
        """Go through a stretch: observations [T, B, 2], new [T, B] -> [T, B, A + 1]."""
        outputs, _ = self.memory(self.encoder(observations), state, resets=new)
        return self.heads(outputs)


class SteppingAgent(Agent):
    """The same over `nn.LSTM`: it keeps its state by itself, and a stretch is a loop."""

    state: State

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.LSTM(hidden, hidden), hidden)

    def begin(self, environments: int) -> None:
        """See `StreamingAgent`."""
        zeros = torch.zeros(1, environments, self.heads.in_features)
        self.state = zeros, zeros

    @torch.no_grad()
    def act(self, observations: Tensor, new: Tensor) -> Tensor:
        """See `StreamingAgent`."""
        outputs, self.state = self.memory(self.encoder(observations).unsqueeze(0), kept(self.state, new))
        return self.heads(outputs[0])

    def forward(self, observations: Tensor, new: Tensor, state: State) -> Tensor:
        """See `StreamingAgent`."""
        outputs = []
        for x, first in zip(self.encoder(observations).split(1), new, strict=True):
            output, state = self.memory(x, kept(state, first))
            outputs.append(output)
        return self.heads(torch.cat(outputs))


def kept(state: State, new: Tensor) -> State:
    """Return the state with zeros where an episode begins."""
    h, c = state
    old = ~new.unsqueeze(1)
    return h * old, c * old


AGENTS = {"unspool": StreamingAgent, "torch": SteppingAgent}
Player = StreamingAgent | SteppingAgent


class World:
    """Several CartPoles that advance together.

    After the last action of an episode, its last observation is to be seen. The next action does nothing, and a new
    episode begins with the observation after it.

    Attributes
    ----------
    observations : Tensor of shape (B, 2)
        Positions of cart and pole, as shares of where an episode ends.
    new, over : Tensor of shape (B,)
        Whether they are the first of an episode, and whether they are the last.
    """

    def __init__(self, count: int, seed: int) -> None:
        try:
            import gymnasium
        except ImportError as error:
            raise SystemExit("The pole is gymnasium's, which is not installed: pip install gymnasium") from error
        self.poles = gymnasium.make_vec("CartPole-v1", count, vectorization_mode="vector_entry_point")
        self.observations = positions(self.poles.reset(seed=seed)[0])
        self.new, self.over = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Take actions [B], and return rewards [B] and where the pole fell or the cart left [B]."""
        observations, rewards, failed, late, _ = self.poles.step(actions.numpy())
        failed, late = torch.from_numpy(failed), torch.from_numpy(late)
        self.observations, self.new, self.over = positions(observations), self.over, failed | late
        return torch.from_numpy(rewards), failed


def positions(observations: Any) -> Tensor:
    """Return what is left of observations [B, 4] without velocities."""
    return torch.from_numpy(observations[:, ::2]) / torch.tensor([2.4, 0.2095])


class Stretch(NamedTuple):
    """Steps of all environments: [T, B], observations [T, B, 2], and the state before the first one."""

    state: State
    observations: Tensor
    new: Tensor
    real: Tensor  # whether the action did something
    actions: Tensor
    likely: Tensor  # the logarithms of the actions' probabilities
    values: Tensor
    advantages: Tensor

    def of(self, environments: Tensor) -> Self:
        """Return the part of some environments."""
        h, c = self.state
        return type(self)((h[:, environments], c[:, environments]), *(leaf[:, environments] for leaf in self[1:]))


class Clock:
    """Seconds, by what they were spent on."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of a block to a name."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def total(self) -> float:
        """Return their sum."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {spent:.1f}" for name, spent in self.seconds.items())
        return f"{self.total():.1f} s ({parts})"


class Returns:
    """The return of each episode that has ended, the last 100 of them."""

    def __init__(self, environments: int) -> None:
        self.running, self.ended = torch.zeros(environments), deque[float](maxlen=100)

    def add(self, rewards: Tensor, over: Tensor) -> None:
        """Take the rewards of a step [B], and whether an episode is over [B]."""
        self.running += rewards
        self.ended.extend(self.running[over].tolist())
        self.running[over] = 0

    def mean(self) -> float:
        """Return their mean, 0 as long as there are fewer."""
        return sum(self.ended) / len(self.ended) if len(self.ended) == self.ended.maxlen else 0.0


def policy_and_values(heads: Tensor) -> tuple[Categorical, Tensor]:
    """Return a distribution over actions, and values, from what the heads say: [..., A + 1]."""
    scores, values = heads.split([ACTIONS, 1], -1)
    return Categorical(logits=scores, validate_args=False), values.squeeze(-1)


def collect(agent: Player, world: World, settings: Settings, returns: Returns, clock: Clock) -> Stretch:
    """Act for a stretch, and find how much better each action was than the agent had expected."""
    state, steps, outcomes = agent.state, [], []
    for _ in range(settings.stretch):
        observations, new, real = world.observations, world.new, ~world.over
        with clock("acting"):
            policy, values = policy_and_values(agent.act(observations, new))
            actions = policy.sample()
            steps.append((observations, new, real, actions, policy.log_prob(actions), values))
        with clock("environment"):
            rewards, failed = world.step(actions)
        returns.add(rewards, world.over)
        outcomes.append((rewards, failed, world.over))
    now = agent.state
    _, following = policy_and_values(agent.act(world.observations, world.new))
    agent.state = now  # the step was a look ahead: the next stretch begins with it
    observations, new, real, actions, likely, values = map(torch.stack, zip(*steps, strict=True))
    with clock("learning"):
        rewards, failed, over = map(torch.stack, zip(*outcomes, strict=True))
        advantages = estimate(values, following, rewards, failed, over, settings)
    return Stretch(state, observations, new, real, actions, likely, values, advantages)


def estimate(
    values: Tensor, following: Tensor, rewards: Tensor, failed: Tensor, over: Tensor, settings: Settings
) -> Tensor:
    """Return advantages [T, B] by generalised advantage estimation.

    `following` [B] are the values after the last step. Rewards are scaled so that the best possible value is 1. An
    episode that was cut off is worth what the agent expects after it; one in which the pole fell, nothing.
    """
    advantages, advantage = torch.empty_like(values), torch.zeros_like(following)
    for t in reversed(range(len(values))):
        expected = (1 - settings.discount) * rewards[t] + settings.discount * following * ~failed[t]
        advantage = expected - values[t] + settings.discount * settings.trace * advantage * ~over[t]
        advantages[t], following = advantage, values[t]
    return advantages


def loss(agent: Player, stretch: Stretch, settings: Settings) -> Tensor:
    """Return PPO's loss over the steps whose actions did something."""
    real = stretch.real
    policy, values = policy_and_values(agent(stretch.observations, stretch.new, stretch.state))
    ratio = (policy.log_prob(stretch.actions) - stretch.likely)[real].exp()
    advantages, returns = stretch.advantages[real], (stretch.advantages + stretch.values)[real]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - settings.clip, 1 + settings.clip) * advantages).mean()
    return settings.weight * F.mse_loss(values[real], returns) - gain


def learn(agent: Player, optimizer: torch.optim.Optimizer, stretch: Stretch, settings: Settings) -> None:
    """Take a step of Adam for each part of the environments, several times over."""
    for _ in range(settings.epochs):
        for environments in torch.randperm(settings.environments).chunk(settings.parts):
            optimizer.zero_grad()
            loss(agent, stretch.of(environments), settings).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), settings.norm)
            optimizer.step()


def train(
    agent: Player, settings: Settings, *, seed: int, minutes: float, target: float
) -> Iterator[tuple[int, Returns, Clock]]:
    """Learn until episodes return the target on average, the time is over or all steps are taken.

    Yields after each update the steps so far, the returns of the last 100 episodes, and the clock.
    """
    clock, world, returns = Clock(), World(settings.environments, seed), Returns(settings.environments)
    optimizer = torch.optim.Adam(agent.parameters(), eps=1e-5)
    agent.begin(settings.environments)
    each = settings.environments * settings.stretch
    for taken in range(0, settings.steps, each):
        optimizer.param_groups[0]["lr"] = settings.rate * (1 - taken / settings.steps)
        stretch = collect(agent, world, settings, returns, clock)
        with clock("learning"):
            learn(agent, optimizer, stretch, settings)
        yield taken + each, returns, clock
        if returns.mean() >= target or clock.total() >= 60 * minutes:
            return


def evaluate(agent: Player, episodes: int, seed: int) -> float:
    """Return the mean return of new episodes, one in each of so many environments."""
    world, up, total = World(episodes, seed), torch.ones(episodes, dtype=torch.bool), 0
    agent.begin(episodes)
    for _ in range(LONGEST):
        total += int(up.sum())
        policy, _ = policy_and_values(agent.act(world.observations, world.new))
        _, failed = world.step(policy.sample())
        up &= ~failed
    return total / episodes


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=AGENTS, default="unspool")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0, help="the longest time to train")
    parser.add_argument("--target", type=float, default=450.0, help="the mean return of 100 episodes to end with")
    options = parser.parse_args()
    settings = Settings()
    torch.manual_seed(options.seed)
    agent = AGENTS[options.backend](settings.hidden)
    updates = train(agent, settings, seed=options.seed, minutes=options.minutes, target=options.target)
    for steps, returns, clock in updates:
        print(f"{steps:,} steps: mean return {returns.mean():.0f}, {clock}")
    print(f"mean return of 100 new episodes: {evaluate(agent, 100, options.seed + 1):.0f} of {LONGEST}")


if __name__ == "__main__":
    main()
