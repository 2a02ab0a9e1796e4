package afterlens.app.ui

import afterlens.app.R
import afterlens.core.Artifact
import afterlens.lens.live.Fit
import afterlens.lens.live.LiveReport
import afterlens.lens.live.LiveState
import android.content.res.Resources

/** The lines above the picture: which file runs on what, and how fast. */
fun Resources.text(running: LiveState.Running): String = listOfNotNull(
    getString(R.string.live_runs, running.artifact.label(), running.accelerator.name),
    running.accelerator.insteadOf?.let { getString(R.string.live_instead, it) },
    getString(R.string.live_rate, running.report.fps, running.report.dropped),
    stages(running.report),
    running.report.fit.words()?.let(::getString),
).joinToString("\n")

fun Resources.text(warming: LiveState.WarmingUp): String =
    getString(R.string.live_warming_up, "${warming.artifact.width}x${warming.artifact.height}")

/** Such as "256x256 float16". */
fun Artifact.label() = "${width}x$height $variant"

private fun Fit.words(): Int? = when (this) {
    Fit.AS_TRAINED -> null
    Fit.SCALED -> R.string.live_scaled
    Fit.NOT_SAID -> R.string.live_fit_not_said
}

private fun Resources.stages(report: LiveReport): String? = report.stages?.let {
    getString(R.string.live_stages, it.input, it.model, it.output, report.draw)
}
