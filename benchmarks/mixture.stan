// Normal mixture of experts on standardised features and response; experts lie along columns.
data {
  int<lower=1> n;
  int<lower=1> p;
  int<lower=2> k;
  matrix[p, n] features;
  row_vector[n] y;
  matrix[k, k - 1] contrasts;  // orthonormal, each column sums to zero
}
parameters {
  matrix[k - 1, p] free_gate;
  matrix[k, p] mu;
  vector<lower=0>[k] sigma;
}
transformed parameters {
  matrix[k, p] gate = contrasts * free_gate;
}
model {
  matrix[k, n] log_weight = gate * features;
  matrix[k, n] term = rep_matrix(y, k) - mu * features;
  vector[n] log_density;
  term = log_weight - 0.5 * square(diag_pre_multiply(inv(sigma), term))
         - rep_matrix(log(sigma), n);
  for (i in 1:n)
    log_density[i] = log_sum_exp(term[, i]) - log_sum_exp(log_weight[, i]);
  target += sum(log_density);
  free_gate[, 1] ~ normal(0, 1.5);
  to_vector(free_gate[, 2:p]) ~ normal(0, 2.5);
  to_vector(mu) ~ normal(0, 2.5);
  sigma ~ lognormal(log(0.5), 1);
}
