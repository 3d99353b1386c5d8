# One fit by Stan: Rscript stan.R <folder> <model>
#
# <folder>/task.dcf says what to fit; features.bin (term, obs), y.bin and contrasts.bin
# (expert, direction) hold doubles, first index fastest. <folder>/seconds.txt gets the seconds of
# compiling and of sampling, draws.bin the draws (draw, chain, value): gate and mu (expert, term),
# then sigma, first index fastest.

suppressMessages(library(rstan))

read_task <- function(folder) {
  task <- as.list(read.dcf(file.path(folder, "task.dcf"))[1, ])
  lapply(task, as.numeric)
}

read_matrix <- function(folder, name, rows, columns) {
  values <- readBin(file.path(folder, paste0(name, ".bin")), "double", rows * columns)
  matrix(values, rows, columns)
}

timed <- function(call) unname(system.time(call)["elapsed"])

# Debian keeps Boost where the compiler finds it, and its package BH is empty.
boost <- function() {
  found <- rstan_options("boost_lib")
  if (nzchar(found)) found else "/usr/include"
}

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
task <- read_task(folder)
data <- list(
  n = task$n, p = task$p, k = task$k,
  features = read_matrix(folder, "features", task$p, task$n),
  y = read_matrix(folder, "y", 1, task$n)[1, ],
  contrasts = read_matrix(folder, "contrasts", task$k, task$k - 1)
)
compiling <- timed(model <- stan_model(arguments[2], boost_lib = boost()))
sampling_seconds <- timed(fit <- sampling(
  model, data = data, chains = task$chains, cores = task$cores, warmup = task$tune,
  iter = task$tune + task$draws, seed = task$seed, pars = c("gate", "mu", "sigma"), refresh = 0
))
writeLines(as.character(c(compiling, sampling_seconds)), file.path(folder, "seconds.txt"))
draws <- extract(fit, permuted = FALSE, inc_warmup = FALSE)
entries <- paste0("[", rep(1:task$k, task$p), ",", rep(1:task$p, each = task$k), "]")
values <- c(paste0("gate", entries), paste0("mu", entries), paste0("sigma[", 1:task$k, "]"))
writeBin(as.vector(draws[, , values]), file.path(folder, "draws.bin"))
