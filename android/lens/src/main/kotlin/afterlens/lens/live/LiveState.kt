package afterlens.lens.live

import afterlens.core.Artifact
import afterlens.core.frameRate
import afterlens.lens.pipeline.StageTimes
import afterlens.lens.runtime.Accelerator

/** What a user should know. */
sealed interface LiveState {
    /** The raw preview runs, a model is being loaded; on a GPU that takes seconds. */
    data class WarmingUp(val artifact: Artifact) : LiveState

    data class Running(val artifact: Artifact, val accelerator: Accelerator, val report: LiveReport) : LiveState

    /** The model cannot be used, for the reason in one line; the raw preview goes on. */
    data class Failed(val reason: String) : LiveState

    data class NoCamera(val problem: CameraProblem) : LiveState
}

/**
 * Of the last seconds.
 *
 * @param stages of the newest result, null before the first one.
 * @param draw ms until the newest picture was drawn.
 * @param fps results a second.
 * @param dropped frames since the start that the model was too slow for.
 * @param fit whether the network gets the camera's pixels as it should.
 */
data class LiveReport(
    val stages: StageTimes?,
    val draw: Double,
    val fps: Double,
    val dropped: Long,
    val restored: Long,
    val fit: Fit,
)

/** How a camera's frames suit a network. */
enum class Fit {
    AS_TRAINED,

    /** The camera has no frames of the size that the network was trained for. */
    SCALED,

    /** The bundle is older than the question, so they are scaled. */
    NOT_SAID,
}

/** The moments of the last results, in ms. */
internal class RecentResults(private val keep: Int = 60) {
    private val moments = ArrayDeque<Double>()

    val fps get() = frameRate(moments)

    fun add(moment: Double) {
        moments += moment
        if (moments.size > keep) moments.removeFirst()
    }
}
