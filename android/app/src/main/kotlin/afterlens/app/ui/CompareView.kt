package afterlens.app.ui

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import kotlin.math.min
import kotlin.math.roundToInt

/** A photo left of a divider, and what was made of it right of it. */
class CompareView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    var before: Bitmap? = null
        set(value) {
            field = value
            invalidate()
        }

    /** Of the same size; null until there is one. */
    var after: Bitmap? = null
        set(value) {
            field = value
            invalidate()
        }

    /** In parts of the view's width. */
    var divider = 0.5f
        set(value) {
            field = value
            invalidate()
        }

    /** How much of the change is shown: 0 is [before], 1 is [after]. */
    var amount = 1f
        set(value) {
            field = value
            invalidate()
        }

    private val paint = Paint(Paint.FILTER_BITMAP_FLAG)
    private val over = Paint(Paint.FILTER_BITMAP_FLAG)

    override fun onDraw(canvas: Canvas) {
        val raw = before ?: return
        val scale = min(width.toFloat() / raw.width, height.toFloat() / raw.height)
        val (across, down) = raw.width * scale to raw.height * scale
        val (left, top) = (width - across) / 2 to (height - down) / 2
        val place = RectF(left, top, left + across, top + down)
        canvas.drawBitmap(raw, null, place, paint)
        val restored = after ?: return
        over.alpha = (amount * 255).roundToInt()
        canvas.save()
        canvas.clipRect(divider * width, 0f, width.toFloat(), height.toFloat())
        canvas.drawBitmap(restored, null, place, over)
        canvas.restore()
    }
}
