# One fit by an R package: Rscript peers.R <folder>
#
# <folder>/task.dcf says what to fit, table.bin holds the columns (doubles, one column after the
# other), labels.bin the starting labels (32-bit integers from 1) if there are any. Reading and a
# first short fit are not timed. <folder>/answer.txt gets one line per quantity: a name, then
# numbers; coefficients expert by expert. `ended` is the number of starts that gave a fit.

seconds_allowed <- 60  # for one random start of mixtools

read_task <- function(folder) {
  task <- as.list(read.dcf(file.path(folder, "task.dcf"))[1, ])
  for (name in c("rows", "experts", "starts", "iterations", "tolerance", "seed"))
    task[[name]] <- as.numeric(task[[name]])
  task
}

read_table <- function(folder, task) {
  columns <- strsplit(task$columns, " ")[[1]]
  values <- readBin(file.path(folder, "table.bin"), "double", task$rows * length(columns))
  setNames(as.data.frame(matrix(values, task$rows)), columns)
}

read_labels <- function(folder, task) {
  path <- file.path(folder, "labels.bin")
  if (file.exists(path)) readBin(path, "integer", task$rows, size = 4)
}

# --- the packages: each gives a list with the names of answer.txt, or stops --------------------

# flexmix has gammas of one common shape, and no negative binomial: with shapes of their own, which
# `optim` fits by BFGS together with the coefficients.
densities <- list(
  gamma = function(y, mean, shape) dgamma(y, shape = shape, scale = mean / shape, log = TRUE),
  negativebinomial = function(y, mean, shape) dnbinom(y, size = shape, mu = mean, log = TRUE)
)
begin <- list(gamma = function(y) log(y), negativebinomial = function(y) log(y + 0.5))

shaped <- function(family) {
  density <- densities[[family]]
  driver <- new("FLXMRglm", weighted = TRUE, formula = . ~ ., family = family, name = family)
  driver@defineComponent <- function(para) {
    mean <- function(x) exp(x %*% para$coef)
    new("FLXcomponent",
      parameters = list(coef = para$coef, shape = exp(para$shape)), df = para$df,
      predict = function(x, ...) mean(x),
      logLik = function(x, y, ...) density(y, mean(x), exp(para$shape))
    )
  }
  driver@fit <- function(x, y, w, component) {
    size <- ncol(x)
    start <- if (length(component)) c(component$coef, log(component$shape))
             else c(lm.wfit(x, begin[[family]](y), w + 1e-8)$coefficients, 1)
    loss <- function(v) {
      found <- -sum(w * density(y, exp(x %*% v[1:size]), exp(v[size + 1])))
      if (is.finite(found)) found else 1e10
    }
    best <- optim(start, loss, method = "BFGS", control = list(maxit = 500, reltol = 1e-13))$par
    driver@defineComponent(list(
      coef = setNames(best[1:size], colnames(x)), shape = best[size + 1], df = size + 1
    ))
  }
  driver
}

run_flexmix <- function(task, table, labels) {
  constant <- task$gate == "~ 1"
  call <- list(
    as.formula(task$formula), data = table, k = task$experts,
    model = if (task$family %in% names(densities)) shaped(task$family)
            else FLXMRglm(family = if (task$family == "normal") "gaussian" else task$family),
    concomitant = if (constant) FLXPconstant() else FLXPmultinom(as.formula(task$gate)),
    control = list(iter.max = task$iterations, tolerance = task$tolerance, minprior = 0)
  )
  if (is.null(labels)) {
    tried <- do.call(stepFlexmix, c(call, nrep = task$starts, verbose = FALSE, drop = FALSE))
    return(list(fit = getModel(tried, 1), ended = sum(!is.na(tried@logLiks))))
  }
  list(fit = do.call(flexmix, c(call, list(cluster = labels))), ended = 1)
}

read_flexmix <- function(reached, task) {
  fit <- reached$fit
  found <- parameters(fit)
  list(
    ended = reached$ended, iterations = fit@iter, log_likelihood = fit@logLik,
    mu = found[!rownames(found) %in% c("sigma", "shape"), ], sigma = found[rownames(found) == "sigma", ],
    gate = if (task$gate == "~ 1") log(prior(fit)) else parameters(fit, which = "concomitant")
  )
}

run_mixtools <- function(task, table, labels) {
  frame <- model.frame(as.formula(task$formula), table)
  x <- model.matrix(attr(frame, "terms"), frame)[, -1, drop = FALSE]
  algorithm <- if (task$gate == "~ 1") regmixEM else hmeEM  # hmeEM's gate has the experts' x
  one <- function(start) tryCatch({
    setTimeLimit(elapsed = seconds_allowed, transient = TRUE)
    algorithm(model.response(frame), x, k = task$experts, maxit = task$iterations)
  }, error = function(e) NULL, finally = setTimeLimit())
  fits <- Filter(Negate(is.null), lapply(seq_len(task$starts), one))
  list(fit = fits[[which.max(sapply(fits, `[[`, "loglik"))]], ended = length(fits))
}

read_mixtools <- function(reached, task) {
  fit <- reached$fit
  list(
    ended = reached$ended, iterations = length(fit$all.loglik) - 1, log_likelihood = fit$loglik,
    mu = fit$beta, sigma = fit$sigma,
    gate = if (is.null(fit$w)) log(fit$lambda) else cbind(fit$w, 0)
  )
}

packages <- list(
  flexmix = list(run = run_flexmix, read = read_flexmix),
  mixtools = list(run = run_mixtools, read = read_mixtools)
)

# --- the run -----------------------------------------------------------------------------------

quietly <- function(expression) {
  capture.output(value <- suppressMessages(suppressWarnings(try(expression, silent = TRUE))))
  if (inherits(value, "try-error")) NULL else value
}

write_answer <- function(answer, folder) {
  lines <- sapply(names(answer), function(name)
    paste(name, paste(sprintf("%.17g", as.numeric(answer[[name]])), collapse = " ")))
  writeLines(lines, file.path(folder, "answer.txt"))
}

main <- function(folder) {
  task <- read_task(folder)
  suppressMessages(library(task$package, character.only = TRUE))
  package <- packages[[task$package]]
  table <- read_table(folder, task)
  labels <- read_labels(folder, task)

  set.seed(task$seed)
  few <- seq_len(min(task$rows, 500))
  short <- modifyList(task, list(starts = 1, iterations = 3))
  quietly(package$run(short, table[few, ], labels[few]))
  gc()
  set.seed(task$seed)
  began <- Sys.time()
  reached <- quietly(package$run(task, table, labels))
  seconds <- as.numeric(difftime(Sys.time(), began, units = "secs"))
  answer <- if (!is.null(reached)) package$read(reached, task)
  write_answer(c(list(seconds = seconds), answer), folder)
}

main(commandArgs(trailingOnly = TRUE)[1])
