package afterlens.app.ui

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.os.Bundle
import android.util.AttributeSet
import android.view.MotionEvent
import android.view.View
import android.view.ViewConfiguration
import android.view.accessibility.AccessibilityNodeInfo
import android.widget.SeekBar
import kotlin.math.abs

/** The handle of a divider that lies over a picture; it is drawn by whatever lies below. Holding the picture hides it. */
class DividerView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    /** Told the divider's place in parts of the width; 1 while the picture is held, so that all of it is raw. */
    var onMoved: (Float) -> Unit = {}

    /** In parts of the width. */
    var place = 0.5f
        set(value) {
            field = value.coerceIn(0f, 1f)
            invalidate()
            onMoved(field)
        }

    private val density = resources.displayMetrics.density
    private val slop = ViewConfiguration.get(context).scaledTouchSlop
    private val hold = Runnable { isHeld = true }
    private var downX = 0f
    private var isDragged = false
    private var isHeld = false
        set(value) {
            field = value
            invalidate()
            onMoved(if (value) 1f else place)
        }

    private val line = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = Color.WHITE
        strokeWidth = 2 * density
    }
    private val arrow = Paint(line).apply {
        color = Color.BLACK
        strokeCap = Paint.Cap.ROUND
    }

    init {
        isFocusable = true
    }

    override fun onDraw(canvas: Canvas) {
        if (isHeld) return
        val (x, y) = place * width to height / 2f
        canvas.drawLine(x, 0f, x, height.toFloat(), line)
        canvas.drawCircle(x, y, HANDLE * density, line)
        for (side in listOf(-1, 1)) {
            val (tip, back, half) = Triple(x + side * 11 * density, x + side * 6 * density, 5 * density)
            canvas.drawLine(tip, y, back, y - half, arrow)
            canvas.drawLine(tip, y, back, y + half, arrow)
        }
    }

    override fun onTouchEvent(event: MotionEvent): Boolean {
        when (event.actionMasked) {
            MotionEvent.ACTION_DOWN -> {
                downX = event.x
                isDragged = abs(event.x - place * width) < 2 * HANDLE * density
                if (!isDragged) postDelayed(hold, ViewConfiguration.getLongPressTimeout().toLong())
            }
            MotionEvent.ACTION_MOVE -> {
                if (!isHeld && abs(event.x - downX) > slop) isDragged = true
                if (isDragged) {
                    removeCallbacks(hold)
                    place = event.x / width
                }
            }
            MotionEvent.ACTION_UP, MotionEvent.ACTION_CANCEL -> {
                removeCallbacks(hold)
                if (isHeld) isHeld = false else if (event.actionMasked == MotionEvent.ACTION_UP) performClick()
            }
        }
        return true
    }

    override fun onDetachedFromWindow() {
        removeCallbacks(hold)
        super.onDetachedFromWindow()
    }

    override fun onInitializeAccessibilityNodeInfo(info: AccessibilityNodeInfo) {
        super.onInitializeAccessibilityNodeInfo(info)
        info.className = SeekBar::class.java.name // so that screen readers offer to move it
        info.addAction(AccessibilityNodeInfo.AccessibilityAction.ACTION_SCROLL_FORWARD)
        info.addAction(AccessibilityNodeInfo.AccessibilityAction.ACTION_SCROLL_BACKWARD)
    }

    override fun performAccessibilityAction(action: Int, arguments: Bundle?): Boolean {
        when (action) {
            AccessibilityNodeInfo.ACTION_SCROLL_FORWARD -> place += STEP
            AccessibilityNodeInfo.ACTION_SCROLL_BACKWARD -> place -= STEP
            else -> return super.performAccessibilityAction(action, arguments)
        }
        return true
    }

    private companion object {
        const val HANDLE = 18f // dp
        const val STEP = 0.1f
    }
}
