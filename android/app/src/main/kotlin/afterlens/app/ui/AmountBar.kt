package afterlens.app.ui

import afterlens.app.R
import android.app.Activity
import android.widget.SeekBar
import android.widget.TextView

/**
 * The slider that says how much of the network's change is shown. It outlives a rotation, as Android's sliders do.
 *
 * @param onChanged told every new [amount].
 */
class AmountBar(private val activity: Activity, private val onChanged: (Float) -> Unit) : SeekBar.OnSeekBarChangeListener {
    private val slider = activity.requireViewById<SeekBar>(R.id.amount)
    private val text = activity.requireViewById<TextView>(R.id.amount_text)

    /** From 0 to 100. */
    var percent: Int
        get() = slider.progress
        set(value) {
            slider.progress = value
        }

    /** 0 is the camera's picture, 1 the network's. */
    val amount get() = percent / 100f

    init {
        text.text = activity.getString(R.string.amount, slider.max)
        text.minWidth = text.run { measure(0, 0); measuredWidth } // the slider stays where it is under a finger
        slider.setOnSeekBarChangeListener(this)
    }

    override fun onProgressChanged(seekBar: SeekBar, progress: Int, fromUser: Boolean) {
        text.text = activity.getString(R.string.amount, progress)
        onChanged(amount)
    }

    override fun onStartTrackingTouch(seekBar: SeekBar) = Unit

    override fun onStopTrackingTouch(seekBar: SeekBar) = Unit
}
