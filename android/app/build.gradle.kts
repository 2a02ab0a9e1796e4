import groovy.json.JsonSlurper

plugins {
    id("com.android.application")
    kotlin("android")
}

android {
    namespace = "afterlens.app"
    compileSdk = 36
    defaultConfig {
        applicationId = "dev.afterlens"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }
    sourceSets["main"].java.srcDir("src/main/kotlin")
    sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("bundles"))
    // Its tests bring their own stand-ins for AndroidX and run by Maven (app/pom.xml).
    sourceSets["test"].java.setSrcDirs(emptyList<String>())
    androidResources { noCompress += "tflite" }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(project(":lens"))
}

// -Pafterlens.bundles=DIR: the bundles of that folder go into the app, as android/apk.py has them.
val bundles = providers.gradleProperty("afterlens.bundles")

val copyBundles by tasks.registering {
    val target = layout.buildDirectory.dir("bundles/bundles")
    val source = bundles.map { rootProject.file(it) }
    inputs.property("bundles", bundles.orElse(""))
    source.orNull?.let { inputs.dir(it) }
    outputs.dir(target)
    doLast {
        val to = target.get().asFile.apply { deleteRecursively() }
        val from = source.orNull ?: return@doLast
        val found = from.listFiles().orEmpty().filter { File(it, "model.json").isFile }
        if (found.isEmpty()) throw GradleException("$from: no bundles here, expected $from/NAME/model.json")
        for (bundle in found) {
            val contract = JsonSlurper().parse(File(bundle, "model.json")) as Map<*, *>
            val artifacts = (contract["artifacts"] as List<*>).map { it as Map<*, *> }.filter { it["format"] == "tflite" }
            val golden = (contract["golden"] as List<*>).map { it as Map<*, *> }
            for (name in listOf("model.json") + (artifacts + golden).map { it["file"] as String }) {
                val file = File(bundle, name)
                if (!file.isFile) throw GradleException("${bundle.name}: $name is missing")
                file.copyTo(File(to, "${bundle.name}/$name"))
            }
        }
    }
}

tasks.named("preBuild") { dependsOn(copyBundles) }
