"""Parts of videos: fit a codebook on sampled frames, then stream every frame (paper section 5.1).

Pass 2 takes the descriptors that pass 1 has computed from its cache. An interrupted run leaves what it has finished in
OUT/.run, and a later one with `resume` continues from there, to the same bytes. With `workers` pass 2 is done by them
(`pipeline.distributed`), to the same bytes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cluster.codebook import Codebook, codebook_sha256, load_codebook, save_codebook
from pipeline.cluster.feature_cache import FeatureCache, KeptCache
from pipeline.config import Settings, with_values
from pipeline.distributed.coordinator import Coordinator, inspect_inputs
from pipeline.distributed.local import Inline
from pipeline.distributed.plan import Plan, load_plan, make_plan, path_of, save_plan
from pipeline.distributed.pools import Workers
from pipeline.distributed.units import Inspect, Pool
from pipeline.distributed.worker import OpenRun, units_of
from pipeline.errors import InputError, OutputError
from pipeline.failures import Failure, noted, raise_failures
from pipeline.files import output_errors, remove
from pipeline.forecast.disk import estimate_disk, require_space, written_bytes
from pipeline.forecast.memory import memory_limit, size_run
from pipeline.forecast.workload import Workload, count_work
from pipeline.kernels import compiled_ahead
from pipeline.media.clip_writer import require_encodable
from pipeline.media.inputs import resolve_inputs
from pipeline.media.source import Source, selection_of
from pipeline.painting.styles import painted_size
from pipeline.progress import Progress, Silent
from pipeline.reporting.facts import run_facts
from pipeline.reporting.notebook import run_html
from pipeline.reporting.verdict import verdict_lines
from pipeline.runs.edits import EDITS
from pipeline.runs.fit_record import load_fit, save_fit
from pipeline.runs.manifest import Manifest, make_manifest
from pipeline.runs.record import CLUSTERS, CODEBOOK, InputResult, load_record
from pipeline.runs.resume import Over, begin_run, require_room
from pipeline.runs.streaming import Streaming
from pipeline.runs.workspace import Workspace, kept_for_resume, locked
from pipeline.stages.cluster_patches import SampledPictures, draw_clusters
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.fit import Fitted, fit_codebook, require_undamaged

_NAMED = 8
"""Results that are named at the end."""

__all__ = ["CODEBOOK", "SegmentResult", "segment"]


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What a run did.

    Attributes:
        codebook: the file of the parts.
        finished: the inputs that were segmented.
        failures: the inputs that couldn't be.
        planned: how many units are left for `vidparts shard`, where the run was only planned.
    """

    codebook: Path
    finished: tuple[InputResult, ...]
    failures: tuple[Failure, ...]
    planned: int | None = None

    def raise_failures(self) -> None:
        """Raise an error of the first failure's kind that names every failed input; nothing if none failed."""
        done = f" ({len(self.finished)} other inputs are finished)" if self.finished else ""
        kept = "; what is finished is kept: --resume continues" if self.resumable else ""
        raise_failures(self.failures, done + kept)

    @property
    def resumable(self) -> bool:
        """Whether another run could finish what this one couldn't."""
        return any(failure.error.resumable for failure in self.failures)

    def summary(self) -> str:
        """What was found, how steady it is, what to doubt and where the files are, for a person."""
        if self.planned is not None:
            return (
                f"{self.planned} units are planned; `vidparts shard {self.codebook.parent} --index I --of N` for each "
                "I below N does them, and then the same command with --resume instead of --plan makes the results\n"
                f"codebook: {self.codebook}"
            )
        if not self.finished:
            return f"codebook: {self.codebook}"
        facts = run_facts(self.codebook.parent, [result.directory for result in self.finished])
        return "\n".join(
            [verdict_lines(facts), *(str(result.directory) for result in self.finished[:_NAMED]), *self._rest()]
        )

    def _repr_html_(self) -> str:
        """How a notebook shows it, with the edits of the run."""
        if not self.finished:
            return "<p>nothing was finished</p>"
        return run_html(run_facts(self.codebook.parent, [result.directory for result in self.finished]))

    def stage_table(self) -> str:
        """Seconds of each stage and of the fit."""
        lines = []
        for result in self.finished:
            lines.append(f"{result.directory}: {result.record.source.frames} frames")
            lines.extend(stage.line() for stage in result.record.stages)
        fit_seconds = self.finished[0].record.fit_seconds if self.finished else None
        return "\n".join([*lines, *([f"{'fit':<12} {fit_seconds:9.2f} s"] if fit_seconds is not None else [])])

    def _rest(self) -> list[str]:
        more = len(self.finished) - _NAMED
        return [*([f"and {more} more in {self.codebook.parent}"] if more > 0 else []), f"codebook: {self.codebook}"]


def segment(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    save_frames: bool = False,
    workers: Workers | None = None,
    plan_only: bool = False,
    progress: Progress | None = None,
) -> SegmentResult:
    """Find the parts in inputs and paint them.

    Args:
        inputs: videos, directories of frames, globs or text files of paths.
        output: directory of the results; OUT/<name>/ for each input, OUT/codebook.safetensors for all.
        settings: the defaults if None.
        codebook: use its parts instead of fitting.
        overwrite: replace results that exist.
        resume: continue an interrupted run, to the same bytes; begins a new one where there is none.
        save_frames: also write the painted frames under the input's own names.
        workers: what pass 2 is spread over; None: this process.
        plan_only: fit, divide the work for `vidparts shard`, and stop.
        progress: receives progress and messages.

    Raises:
        InputError: no input can be read; one that fails among others is listed in the result's `failures`.
        OutputError: results exist, can't be written, or another run is at work on them.
        ModelError: the model can't be loaded, or the codebook doesn't fit.
        UsageError: with `resume`, the interrupted run was begun with other settings or inputs; or the run would take
            more memory than it may; or the engine isn't installed.
        WorkersError: there are no workers, or one isn't what the run was begun with.
        Interrupted, KeyboardInterrupt: with a message that says what is kept, if anything is.
    """
    settings, progress = settings or Settings(), progress or Silent()
    if workers is not None:
        workers.require()
    sources = resolve_inputs([str(item) for item in inputs], settings.input.fps)
    given = load_codebook(codebook).for_others() if codebook else None
    with locked(output), ExitStack() as held:
        work = Workspace(output)
        if not (overwrite or resume):
            require_room(work, sources, codebook)
        engine = open_engine(settings, progress, given, str(codebook))
        pool = None if workers is None or plan_only else workers.open(output, gpu=not engine.on_cpu)
        if pool is not None:
            # Behind the end of the workers, which is the last that they write.
            held.callback(remove, work.scratch)
            held.callback(pool.close)
        checksums = None if pool is None or len(sources) == 1 else _inspected(pool, sources, settings.input.fps)
        load = count_work(sources, engine, fits=given is None)
        capacity = size_run(load, engine)
        sized = replace(engine, settings=capacity.settings)
        # On a GPU the batch decides the last bits, so there the manifest has the batch that fits.
        manifest = make_manifest(sources, engine if engine.on_cpu else sized, codebook, save_frames, checksums)
        begun = begin_run(work, sources, manifest, codebook, overwrite=overwrite) if resume else None
        if isinstance(begun, Over):
            return _nothing_left(work, begun, progress)
        if resume and begun is None:
            progress.say(f"'{output}' holds no unfinished run: beginning a new one")
        with kept_for_resume(work):
            need = estimate_disk(load, engine.settings.render, save_frames=save_frames)
            require_space(output, need, written_bytes(work.folder))
            if begun is None:
                work.begin(manifest)
            spread = _spread(workers or Workers(), pool, load, sized) if workers is not None or plan_only else None
            run = _Run(work, begun or manifest, sized, codebook, capacity.cache_bytes, progress, spread)
            if engine.on_cpu and spread is None:
                held.enter_context(compiled_ahead(1 + (given.parts if given else engine.settings.cluster.parts)))
            try:
                result = run.finish(sources, given)
            finally:
                # Before the run is concluded: nothing of a worker may be written any more.
                held.close()
        if not result.resumable and result.planned is None:
            work.conclude(result.failures if result.finished else ())
    return result


def _nothing_left(work: Workspace, over: Over, progress: Progress) -> SegmentResult:
    """The results of an earlier run, which may have died while it cleaned up."""
    work.conclude(over.failures)
    progress.say(f"'{work.output}' is finished already: there is nothing to resume")
    return SegmentResult(work.output / CODEBOOK, over.results, over.failures)


def _inspected(pool: Pool, sources: Sequence[Source], fps: float) -> list[str | None]:
    """The inputs' checksums, found out by workers together with what else takes long."""
    found = inspect_inputs(pool, [Inspect(path_of(source, fps)) for source in sources])
    for source, each in zip(sources, found, strict=True):
        if each.index is not None:
            source.load_index(each.index)
    return [each.sha256 for each in found]


@dataclass(frozen=True, slots=True)
class _Spread:
    """Who does pass 2.

    Attributes:
        workers: the user's choice.
        pool: the workers; None where the work is only planned.
        shard_frames: about how many frames each gets at a time.
        settings: those of a worker.
    """

    workers: Workers
    pool: Pool | None
    shard_frames: int
    settings: Settings


def _spread(workers: Workers, pool: Pool | None, load: Workload, sized: Engine) -> _Spread:
    """Workers with settings by which each stays below its share of the memory; on a GPU they are the run's."""
    length = workers.shard_length(sum(each.frames for each in load.inputs))
    here = 1 if pool is None else workers.on_this_machine()
    if here == 1 or not sized.on_cpu:
        return _Spread(workers, pool, length, sized.settings)
    share = memory_limit(sized.settings) // (here + 1)
    shared = size_run(load, replace(sized, settings=with_values(sized.settings, {"run.max_memory": share})))
    settings = with_values(shared.settings, {"run.max_memory": sized.settings.run.max_memory})
    return _Spread(workers, pool, length, settings)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that was begun, fresh or resumed."""

    work: Workspace
    manifest: Manifest
    engine: Engine
    codebook: Path | None
    cache_bytes: int
    progress: Progress
    spread: _Spread | None

    def finish(self, sources: Sequence[Source], given: Codebook | None) -> SegmentResult:
        """Do what is left of both passes, and list the results."""
        file = self.work.output / CODEBOOK
        with KeptCache(self.work.fit, self.cache_bytes) as cache:
            fitted, failures = self._given(given, file, sources) if given else self._fitted(sources, cache, file)
            for warning in fitted.warnings:
                self.progress.say(f"warning: {warning}")
            streaming = Streaming(self.work, self.manifest, self.engine, fitted, cache, self.progress)
            plan = self._plan(streaming, sources, failures)
            if plan is not None and self.spread is not None and self.spread.pool is None:
                return SegmentResult(file, (), tuple(failures), len(units_of(OpenRun(streaming, plan, tuple(sources)))))
            finished = self._finished(streaming, plan, sources, failures)
        return SegmentResult(file, tuple(finished), tuple(failures))

    def _given(self, given: Codebook, file: Path, sources: Sequence[Source]) -> tuple[Fitted, list[Failure]]:
        assert self.codebook is not None
        there = file.exists() and file.samefile(self.codebook)
        if not there or codebook_sha256(load_codebook(file)) != codebook_sha256(given):
            self._retire_edits(given)
            save_codebook(given, file)
            remove(self.work.output / CLUSTERS)
        failures: list[Failure] = []
        for source in sources:
            with noted(source.name, failures, (InputError, OutputError)):
                self._require_paintable(source)
                require_undamaged(source, selection_of(self.engine.settings), self.progress)
        return Fitted(given, (), None), failures

    def _fitted(self, sources: Sequence[Source], cache: FeatureCache, file: Path) -> tuple[Fitted, list[Failure]]:
        known = load_fit(self.work.fit, file)
        if known is not None:
            return known
        failures: list[Failure] = []
        pictures = SampledPictures(self.work.fit / "pictures")
        fitted = fit_codebook(sources, self.engine, cache, self.progress, failures, self._require_paintable, pictures)
        self._retire_edits(fitted.codebook)
        save_codebook(fitted.codebook, file)
        draw_clusters(cache, pictures, fitted.codebook.centroids, self.work.output / CLUSTERS)
        save_fit(self.work.fit, fitted, failures)
        return fitted, failures

    def _retire_edits(self, codebook: Codebook) -> None:
        """Put the edits of an earlier run's other parts aside."""
        file, edits = self.work.output / CODEBOOK, self.work.output / EDITS
        if not edits.is_file() or (
            file.is_file() and codebook_sha256(load_codebook(file)) == codebook_sha256(codebook)
        ):
            return
        aside = edits.with_name("edits-of-earlier-parts.json")
        with output_errors(aside):
            edits.replace(aside)
        self.progress.say(f"the edits of the earlier parts don't fit the new ones: they are in '{aside}' now")

    def _require_paintable(self, source: Source) -> None:
        if not self.manifest.save_frames:
            require_encodable(painted_size(source.probe().size_hw, self.engine.settings.render.style), source.path)

    def _plan(self, streaming: Streaming, sources: Sequence[Source], failures: Sequence[Failure]) -> Plan | None:
        """How the work is divided; that of an interrupted run stands."""
        plan = load_plan(self.work)
        if plan is None and self.spread is not None:
            lost = {failure.name for failure in failures}
            workers = self.spread.workers
            plan = make_plan(
                streaming,
                sources,
                lost,
                self.spread.settings,
                self.spread.shard_frames,
                mixed_devices=workers.mixed_devices,
            )
            save_plan(self.work, plan, [source for source in sources if source.name not in lost])
        return plan

    def _finished(
        self, streaming: Streaming, plan: Plan | None, sources: Sequence[Source], failures: list[Failure]
    ) -> list[InputResult]:
        """The results of all inputs, those of an interrupted run among them."""
        lost = {failure.name for failure in failures}
        found: dict[int, InputResult] = {}
        left = []
        for number, source in enumerate(sources):
            if source.name in lost:
                continue
            if self.work.is_published(source.name):
                directory = self.work.output / source.name
                with noted(source.name, failures):
                    found[number] = InputResult(source.name, directory, load_record(directory))
            else:
                left.append(number)
        if plan is not None:
            pool = self.spread.pool if self.spread is not None else None
            pool = pool or Inline(OpenRun(streaming, plan, tuple(sources)).work)
            done, failed = Coordinator(pool, plan, streaming, self.progress).run(sources, left)
            found |= done
            failures += failed
            return [found[number] for number in sorted(found)]
        for number in left:
            with noted(sources[number].name, failures):
                found[number] = streaming.run(number, sources[number])
        return [found[number] for number in sorted(found)]
