"""Random teams and projects."""

from __future__ import annotations

import random
from typing import Any

from hub.coordination.planning.problem import AllocationRequest
from protocol.coordination import Skill, Specialist, TaskSpec, Window

HOUR = 3_600_000_000
SKILLS = [f"skill-{number}" for number in range(8)]


def specialist(name: str, *skills: str | Skill, **fields: Any) -> Specialist:
    known = [skill if isinstance(skill, Skill) else Skill(id=skill) for skill in skills]
    return Specialist(**({"specialist_id": name, "team": "alpha", "skills": known} | fields))


def task(name: str, *skills: str, **fields: Any) -> TaskSpec:
    return TaskSpec(**({"task_id": name, "required_skills": list(skills)} | fields))


def request(tasks: list[TaskSpec], specialists: list[Specialist], **fields: Any) -> AllocationRequest:
    return AllocationRequest(**({"project_id": "p", "tasks": tasks, "specialists": specialists, "start": 0} | fields))


def random_request(seed: int, *, people: int, tasks: int, windows: bool = False) -> AllocationRequest:
    dice = random.Random(seed)

    def someone(number: int) -> Specialist:
        skills = [
            Skill(id=name, speed=round(dice.uniform(0.5, 2), 2), quality=round(dice.uniform(0.5, 1), 2))
            for name in dice.sample(SKILLS, dice.randint(2, 5))
        ]
        opens = dice.randint(0, 10)
        return specialist(
            f"agent-{number}",
            *skills,
            usd_per_hour=str(dice.randint(5, 100)),
            usd_per_mtok_in=str(dice.randint(0, 10)),
            max_concurrent=dice.randint(1, 2),
            hours=dice.choice([None, 20.0, 40.0]),
            availability=[Window(start=opens * HOUR, end=(opens + dice.randint(2, 30)) * HOUR)]
            if windows and dice.random() < 0.7
            else [],
        )

    def something(number: int) -> TaskSpec:
        earlier = [f"task-{other}" for other in range(number)]
        reviewed = dice.choice(earlier) if earlier and dice.random() < 0.3 else None
        return task(
            f"task-{number}",
            *dice.sample(SKILLS, dice.randint(0, 2)),
            effort_h=round(dice.uniform(0, 8), 1),
            priority=dice.randint(0, 100),
            depends_on=dice.sample(earlier, min(number, dice.randint(0, 2))),
            review_of=reviewed,
            est_tokens=dice.randint(0, 1_000_000),
            min_quality=dice.choice([0.0, 0.0, 0.6]),
            deadline=dice.choice([None, 10 * HOUR]),
            pinned=f"agent-{dice.randrange(people)}" if dice.random() < 0.1 else None,
            reviewer=f"agent-{dice.randrange(people)}" if dice.random() < 0.1 else None,
        )

    return request(
        [something(number) for number in range(tasks)],
        [someone(number) for number in range(people)],
        budget_usd=dice.choice([None, str(tasks * 60), str(tasks * 200)]),
        budget_tokens=dice.choice([None, tasks * 400_000]),
        timeline=dice.choice([None, 20 * HOUR]),
    )
