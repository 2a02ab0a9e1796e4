package afterlens.app.ui

import afterlens.app.R
import afterlens.lens.live.CameraProblem
import android.app.Activity
import android.view.View
import android.widget.Button
import android.widget.TextView

/** What is wrong, in plain words, and what the user can do about it. */
class Message(val text: String, val button: Int? = null, val action: () -> Unit = {})

/** The words for a camera that gives no pictures. */
fun CameraProblem.words(): Int = when (this) {
    CameraProblem.NONE -> R.string.camera_none
    CameraProblem.TAKEN -> R.string.camera_taken
    CameraProblem.FORBIDDEN -> R.string.camera_forbidden
    CameraProblem.BROKEN -> R.string.camera_broken
}

/** Shows a message over the picture; null removes it. */
fun Activity.show(message: Message?) {
    requireViewById<View>(R.id.message).visibility = if (message == null) View.GONE else View.VISIBLE
    requireViewById<TextView>(R.id.message_text).text = message?.text.orEmpty()
    val button = requireViewById<Button>(R.id.message_button)
    button.visibility = if (message?.button == null) View.GONE else View.VISIBLE
    if (message?.button != null) button.setText(message.button)
    button.setOnClickListener { message?.action?.invoke() }
}
